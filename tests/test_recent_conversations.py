import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.errors import BridgeError
from qwen_mitm.intake import Arrival, begin
from qwen_mitm.providers import PROFILES, Dialect
from qwen_mitm.recent_conversations import RecentConversations
from qwen_mitm.translate.demands import Demands
from qwen_mitm.turn import Turn
from qwen_mitm.wire.responses import parse_request
from tests.cases import cases
from tests.test_turn import AROUND, CHUNK, FIELDS, FINISH, SSE, sent
from tests.translate.answers import numbered_ids
from tests.translate.sending import assistant, call, output, thought, user

type Json = dict[str, Any]

NEVER: Final = 2**40
ARRIVAL: Final = Arrival("POST", "/v1/responses", FIELDS)
DIALECTS: Final = [
    Dialect(PROFILES["generic"]),
    Dialect(PROFILES["portal"]),
    Dialect(PROFILES["dashscope"]),
    Dialect(PROFILES["openrouter"]),
    Dialect(PROFILES["vllm"]),
    Dialect(PROFILES["dashscope"], "responses"),
]
SEALED: Final = AROUND.seal.seal("thought", "what was really thought")
SUMMARY: Final = AROUND.seal.seal("compaction", "what was said before")
FUNCTION: Final[Json] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CUSTOM: Final[Json] = {"type": "custom", "name": "f"}
NAMESPACE: Final[Json] = {"type": "namespace", "name": "n", "tools": [FUNCTION, CUSTOM]}

words = st.sampled_from(
    [
        "go",
        "",
        "is it JSON?",
        "héé 你好 🙂",
        '],"input":[{"role":"user"}],"',
        "\\\"]}', ",
        "a" * 300,
    ]
)


def user_message(text: str) -> Json:
    return {"type": "message", **user([text_part(text)])}


def text_part(text: str) -> Json:
    return {"type": "input_text", "text": text}


def image(text: str) -> Json:
    return user([text_part(text), {"type": "input_image", "image_url": f"data:,{text}"}])


def audio(text: str) -> Json:
    return user([{"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}])


def sealed_thought() -> Json:
    return {"type": "reasoning", "summary": [], "encrypted_content": SEALED}


type Group = Callable[[str, int], list[Json]]

# They may follow each other in any order.
RIGHT: Final[list[Group]] = [
    lambda text, n: [user(text)],
    lambda text, n: [user_message(text), user_message(text)],
    lambda text, n: [image(text)],
    lambda text, n: [assistant(text)],
    lambda text, n: [{"role": "developer", "content": text}],
    lambda text, n: [thought(text), call(f"c{n}"), output(f"c{n}", text)],
    lambda text, n: [call(f"c{n}"), call(f"d{n}"), user(text), output(f"c{n}"), output(f"d{n}")],
    lambda text, n: [call(f"c{n}", arguments=text), output(f"c{n}", text), assistant(text)],
    lambda text, n: [
        call(f"c{n}", namespace="n"),
        output(f"c{n}", [user_message(text)["content"][0]]),
    ],
    lambda text, n: [
        {"type": "custom_tool_call", "call_id": f"c{n}", "name": "f", "input": text},
        {"type": "custom_tool_call_output", "call_id": f"c{n}", "output": text},
    ],
    lambda text, n: [
        {"type": "reasoning", "summary": [], "encrypted_content": SEALED},
        assistant(text),
    ],
    lambda text, n: [{"type": "compaction", "encrypted_content": SUMMARY}],
    lambda text, n: [{"type": "web_search_call", "id": f"ws_{n}", "status": "completed"}],
    lambda text, n: [{"type": "additional_tools", "role": "developer", "tools": [NAMESPACE]}],
    lambda text, n: [{"type": "configuration_update", "reasoning": {"effort": "low"}}],
    lambda text, n: [{"type": "agent_message", "author": text, "content": text}],
    lambda text, n: [
        user([{"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}])
    ],
    lambda text, n: [{"type": "tool_search_call", "arguments": {"query": text}}],
]
WRONG: Final[list[Group]] = [
    lambda text, n: [call(f"c{n}")],
    lambda text, n: [output(f"c{n}")],
    lambda text, n: [{"type": "no_such_type", "text": text}],
    lambda text, n: [user(7)],
]
news = st.lists(
    st.builds(
        lambda group, text, n: group(text, n),
        st.sampled_from([*RIGHT * 4, *WRONG]),
        words,
        st.integers(0, 999),
    ),
    max_size=4,
).map(lambda found: [item for group in found for item in group])
fields = st.fixed_dictionaries(
    {"model": st.sampled_from(["qwen3.7-plus", "qwen3-coder-plus"])},
    optional={
        "instructions": words,
        "tools": st.lists(st.sampled_from([FUNCTION, CUSTOM, NAMESPACE]), max_size=3),
        "tool_choice": st.sampled_from(["auto", "none"]),
        "metadata": st.dictionaries(st.sampled_from(["input", "x"]), words),
        "text": st.just({"format": {"type": "json_object"}}),
        "prompt_cache_key": words,
        "unknown": st.just([{"input": []}]),
        "stream": st.booleans(),
        "temperature": st.floats(-0.1, 2),
    },
)
styles: st.SearchStrategy[Json] = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 1},
        {},
    ]
)


def written(items: list[Json], around: Json, first: bool, style: Json) -> bytes:
    request = {"input": items, **around} if first else {**around, "input": items}
    return json.dumps(request, **style).encode()


@st.composite
def turns(draw: st.DrawFn) -> list[bytes]:
    """Requests of conversations that are continued, forked, cut, edited and sent otherwise."""
    histories: list[list[Json]] = [draw(news)]
    around, style, first = draw(fields), draw(styles), draw(st.booleans())
    bodies = []
    for _ in range(draw(st.integers(2, 6))):
        items = [*histories[-1 - draw(st.integers(0, min(2, len(histories) - 1)))]]
        match draw(st.sampled_from(["extend", "extend", "extend", "cut", "edit"])):
            case "cut":
                items = items[: draw(st.integers(0, len(items)))]
            case "edit" if items:
                items[draw(st.integers(0, len(items) - 1))] = user(draw(words))
            case _:
                pass
        items += draw(news)
        if draw(st.integers(0, 4)) == 0:
            around = draw(fields)
        if draw(st.integers(0, 9)) == 0:
            style, first = draw(styles), draw(st.booleans())
        histories.append(items)
        bodies.append(written(items, around, first, style))
    return bodies


def whole_turn(body: bytes, dialects: list[Dialect], recent: RecentConversations) -> list[object]:
    """All that comes of a request: what goes upstream, and what the client gets."""
    around = replace(AROUND, new_id=numbered_ids(), recent=recent)

    def choose(model: str, demands: Demands) -> Dialect:
        return dialects[0]

    try:
        turn = begin(ARRIVAL, body, choose, around)
        assert isinstance(turn, Turn)
        made: list[object] = [turn.demands, turn.conversation]
        for dialect in dialects:
            made.append(turn.request("/v1", dialect))
    except BridgeError as error:
        return [type(error), error.message, error.param, error.code, error.status]
    if dialects[-1].wire == "chat":
        assert sent(turn).head(200, SSE) == "offer"
        made += [turn.offer(CHUNK), turn.open(), turn.accepted(), turn.feed(FINISH), turn.end()]
        made.append(turn.line(None))
    return made


@cases(300)
@given(turns(), st.lists(st.sampled_from(DIALECTS), min_size=1, max_size=3, unique=True))
def test_what_earlier_turns_left_changes_nothing(
    bodies: list[bytes], dialects: list[Dialect]
) -> None:
    recent = RecentConversations(least_bytes=0, most=4)
    for number, body in enumerate(bodies):
        # Accounts take turns, and so do hosts.
        order = dialects[number % len(dialects) :] + dialects[: number % len(dialects)]
        alone = whole_turn(body, order, RecentConversations(least_bytes=NEVER))
        assert whole_turn(body, order, recent) == alone


def body_of(items: list[Json], **around: Any) -> bytes:
    return json.dumps({"model": "m", "input": items, **around}).encode()


def test_a_turn_that_continues_a_conversation_has_its_very_items() -> None:
    recent = RecentConversations(least_bytes=0)
    items = [user("a"), assistant("b")]
    first, _ = recent.read(body_of(items))
    second, _ = recent.read(body_of([*items, user("c")], store=False))

    assert isinstance(first.input, tuple)
    assert isinstance(second.input, tuple)
    assert len(second.input) == 3
    assert second.input[0] is first.input[0]
    assert second.input[1] is first.input[1]


def test_what_was_made_for_a_host_is_known_in_the_next_turn_and_to_no_other_conversation() -> None:
    recent = RecentConversations(least_bytes=0)
    _, first = recent.read(body_of([user("a")]))
    _, second = recent.read(body_of([user("a"), user("b")]))
    _, other = recent.read(body_of([user("b")]))

    known = first.for_host(DIALECTS[0])
    assert second.for_host(DIALECTS[0]) is known
    assert second.for_host(DIALECTS[1]) is not known
    assert other.for_host(DIALECTS[0]) is not known


def test_conversations_beyond_the_most_are_forgotten_oldest_first() -> None:
    recent = RecentConversations(least_bytes=0, most=2)
    bodies = [body_of([user(text)]) for text in "abc"]
    items = [recent.read(body)[0].input for body in bodies]

    again = [recent.read(body)[0].input for body in (bodies[2], bodies[1], bodies[0])]

    assert isinstance(again[0], tuple)
    assert items[2] is not None
    assert again[0][0] is items[2][0]
    assert again[1] is not None
    assert items[1] is not None
    assert again[1][0] is items[1][0]
    assert again[2] is not None
    assert items[0] is not None
    assert again[2][0] is not items[0][0]


@pytest.mark.parametrize("most_bytes", [0, 30_000, 200_000])
def test_no_more_bytes_are_kept_than_allowed(most_bytes: int) -> None:
    recent = RecentConversations(least_bytes=0, most_bytes=most_bytes)
    for number in range(40):
        turn = begin(
            ARRIVAL,
            body_of([user(f"{number} {'x' * 5_000}")]),
            lambda model, demands: DIALECTS[0],
            replace(AROUND, recent=recent),
        )
        assert isinstance(turn, Turn)
        turn.request("/v1", DIALECTS[0])

    recent.read(body_of([user("last")]))
    assert recent.size <= most_bytes
    assert (recent.size > 0) == (most_bytes > 0)


def test_a_small_request_is_not_kept() -> None:
    recent = RecentConversations(least_bytes=1_000)
    body = body_of([user("a")])

    assert recent.read(body)[0] == parse_request(body)
    assert recent.size == 0


def test_a_request_with_a_text_as_input_is_read_and_not_kept() -> None:
    recent = RecentConversations(least_bytes=0)
    body = json.dumps({"model": "m", "input": "hello"}).encode()

    assert recent.read(body)[0] == parse_request(body)
    assert recent.size == 0
