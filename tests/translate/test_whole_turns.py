"""Whole turns: a history and a host's answer with all its quirks, through a Turn and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.exchange import HeaderFields
from qwen_mitm.intake import Arrival, begin
from qwen_mitm.providers import PROFILES, Dialect
from qwen_mitm.translate.demands import Demands
from qwen_mitm.turn import Turn
from tests.cases import cases
from tests.chat_checker import check_chat
from tests.event_checker import Event, check_events, events_of
from tests.test_turn import AROUND, SSE, sent
from tests.translate.answers import numbered_ids
from tests.translate.sending import user
from tests.translate.test_history import ANYWHERE, USER, rounds
from tests.translate.test_properties import TABLE, TOOLS

JSON_BODY: HeaderFields = ((b"Content-Type", b"application/json"),)
FINISHED = {"stop", "tool_calls", "function_call", "eos", ""}
# What opens and ends JSON texts is in the way of whoever looks for the calls.
words = st.text(max_size=6) | st.text('{}[]":,\\ a', max_size=6)


@dataclass(frozen=True)
class Said:
    kind: str
    text: str


@dataclass(frozen=True)
class Called:
    id: str
    flat: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class HostAnswer:
    """What a model meant, and the bytes that a host made of it."""

    said: list[Said]
    calls: list[Called]
    finish: str | None
    scored: list[str]
    """The tokens that have log probabilities."""
    stream: bytes

    @property
    def ends_well(self) -> bool:
        return self.finish in FINISHED

    def texts(self, *kinds: str) -> str:
        return "".join(it.text for it in self.said if it.kind in kinds)


def arguments(flat: str, number: int) -> st.SearchStrategy[dict[str, Any]]:
    # Two equal calls without any key are one call that comes twice.
    mark = f"<{number}>"
    route = TABLE.route(flat)
    match route.kind:
        case "custom":
            return words.map(lambda text: {"input": mark + text})
        case "local_shell":
            return words.map(lambda text: {"command": ["echo", mark + text]})
        case "shell":
            return words.map(lambda text: {"commands": [f"echo {mark}", text]})
        case "apply_patch":
            return words.map(lambda text: {"type": "create_file", "path": mark, "diff": text})
        case _:
            return st.dictionaries(words, words | st.integers()).map(lambda it: {**it, "n": mark})


@st.composite
def called(draw: st.DrawFn, number: int) -> Called:
    flat = draw(st.sampled_from([made.name for made in TABLE.definitions]))
    return Called(f"call_h{number}", flat, draw(arguments(flat, number)))


@st.composite
def fragments(draw: st.DrawFn, calls: list[Called], hurried: bool) -> list[dict[str, Any]]:
    """The calls in one of the ways in which hosts number and cut them (qwen.md §2.10, 2-6)."""
    numbering = draw(st.sampled_from(["index", "index", "ids", "zero", "nothing"]))
    restated = draw(st.sampled_from(["nothing", "empty", "same"]))
    as_object = draw(st.booleans()) and hurried
    queues = []
    for number, call in enumerate(calls):
        text = json.dumps(call.arguments, ensure_ascii=draw(st.booleans()))
        cuts = [] if hurried else sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        index = {"index": number, "zero": 0}.get(numbering)
        key: dict[str, Any] = {} if index is None else {"index": index}
        id_ = {} if numbering == "nothing" else {"id": call.id}
        queue: list[dict[str, Any]] = []
        for start, end in pairwise([0, *cuts, len(text)]):
            piece: Any = call.arguments if as_object else text[start:end]
            function: dict[str, Any] = {"arguments": piece}
            if not queue:
                queue.append({**key, **id_, "type": "function"})
                function["name"] = call.flat
            elif restated == "same":
                queue.append({**key, **id_})
                function["name"] = call.flat
            elif restated == "empty":
                queue.append({**key, "id": "", "type": ""})
                function["name"] = ""
            else:
                queue.append({**key})
            queue[-1]["function"] = function
        queues.append(queue)
    if numbering != "index":
        return [piece for queue in queues for piece in queue]
    mixed = []
    while queues:
        queue = draw(st.sampled_from(queues))
        mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mixed


def delta_of(said: Said, field: str) -> dict[str, Any]:
    match said.kind:
        case "thought":
            return dict.fromkeys(field.split("+"), said.text)
        case "text":
            return {"content": said.text}
        case _:
            return {"refusal": said.text}


@st.composite
def host_answers(draw: st.DrawFn) -> HostAnswer:
    kinds = draw(st.lists(st.sampled_from(["thought", "text", "refusal"]), max_size=5))
    # None begins with another, so that no host could mean running totals.
    said = [Said(kind, f"<{number}>{draw(words)}") for number, kind in enumerate(kinds)]
    calls = [draw(called(number)) for number in range(draw(st.integers(0, 3)))]
    finish = draw(st.sampled_from(["stop", "tool_calls", "function_call", "eos", "length", None]))
    field = draw(st.sampled_from(["reasoning_content", "reasoning", "reasoning_content+reasoning"]))
    role = draw(st.booleans())
    choices: list[dict[str, Any]] = []
    tokens: list[str] = []
    for it in said:
        choice: dict[str, Any] = {"delta": delta_of(it, field)}
        if it.kind == "text" and draw(st.booleans()):
            scored = {"token": it.text, "logprob": -0.5, "bytes": None, "top_logprobs": []}
            choice["logprobs"] = {"content": [scored]}
            tokens.append(it.text)
        choices.append(choice)
    pieces = draw(fragments(calls, hurried=draw(st.booleans())))
    choices += [{"delta": {"tool_calls": [piece]}} for piece in pieces]
    for _ in range(draw(st.integers(0, 2))):
        nothing = draw(st.sampled_from([{}, {"content": None}, {"content": ""}]))
        choices.insert(draw(st.integers(0, len(choices))), {"delta": nothing})
    counts = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    usage = draw(st.sampled_from(["none", "end", "every"]))
    events: list[dict[str, Any]] = []
    for choice in choices:
        delta = {"role": "assistant", **choice["delta"]} if role else choice["delta"]
        chunk = {"choices": [{"index": 0, **choice, "delta": delta, "finish_reason": None}]}
        events.append(chunk | ({"usage": counts} if usage == "every" else {}))
    if finish is not None:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage == "end":
        events.append({"choices": [], "usage": counts})
    return HostAnswer(said, calls, finish, tokens, draw(framed(events, done=finish is not None)))


@st.composite
def framed(draw: st.DrawFn, events: list[dict[str, Any]], done: bool) -> bytes:
    """The frames as hosts write them (qwen.md §2.10, 13)."""
    line = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    space = draw(st.sampled_from(["", " "]))
    end = f"{line}{line}"
    texts = [f"data:{space}{json.dumps(it, ensure_ascii=draw(st.booleans()))}" for it in events]
    for _ in range(draw(st.integers(0, 2))):
        odd = draw(st.sampled_from([": keep-alive", "id: 1", "retry: 5", "event: message"]))
        texts.insert(draw(st.integers(0, len(texts))), odd)
    if done and draw(st.booleans()):
        texts.append(f"data:{space}[DONE]")
    stream = "".join(text + end for text in texts)
    if draw(st.booleans()):
        stream = "\ufeff" + stream
    return stream.encode()


def the_turn(body: dict[str, Any], provider: str) -> tuple[Turn, dict[str, Any]]:
    """The turn of a request, and what its host is sent."""
    dialect = Dialect(PROFILES[provider])

    def always(_model: str, _demands: Demands) -> Dialect:
        return dialect

    arrival = Arrival("POST", "/v1/responses", ((b"User-Agent", b"program/1"),))
    around = replace(AROUND, new_id=numbered_ids())
    turn = begin(arrival, json.dumps(body).encode(), always, around)
    assert isinstance(turn, Turn)
    chat: dict[str, Any] = json.loads(turn.request("/v1", dialect).body)
    check_chat(chat, provider)
    return turn, chat


def answered(turn: Turn, pieces: list[bytes]) -> Event | None:
    """The Response object that the client gets; None when it gets a status of its own."""
    assert sent(turn).head(200, SSE) == "offer"
    if not turn.streams:
        verdicts = [turn.offer(piece) for piece in pieces]
        assert set(verdicts) <= {False}
        if turn.offer_end() is not True:
            return None
        document: Event = json.loads(turn.open().body)
        return document
    stream, accepted = b"", False
    for piece in pieces:
        if accepted:
            stream += turn.feed(piece)
        elif turn.offer(piece) is True:
            accepted = True
            stream += turn.accepted()
    if not accepted:
        assert turn.offer_end() is not True
        return None
    events = events_of(stream + turn.end())
    check_events(events)
    response: Event = events[-1]["response"]
    return response


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted(place % (len(stream) + 1) for place in places)
    return [piece for a, b in pairwise([0, *cuts, len(stream)]) if (piece := stream[a:b])]


def parts_of(response: Event, *types: str) -> Iterator[str]:
    for item in response["output"]:
        for part in [*item.get("content", ()), *item.get("summary", ())]:
            if part["type"] in types:
                yield part["refusal"] if part["type"] == "refusal" else part["text"]


def meaning(item: Event) -> dict[str, Any]:
    """The arguments of the function that stands for the tool of this call."""
    match item["type"]:
        case "function_call":
            found: dict[str, Any] = json.loads(item["arguments"])
            return found
        case "custom_tool_call":
            return {"input": item["input"]}
        case "tool_search_call":
            searched: dict[str, Any] = item["arguments"]
            return searched
        case "apply_patch_call":
            operation: dict[str, Any] = item["operation"]
            return operation
        case _:
            return {k: v for k, v in item["action"].items() if k not in ("type", "env")}


def name_of(item: Event) -> tuple[str, str | None, str]:
    kind = item["type"].removesuffix("_call").removesuffix("_tool")
    return kind, item.get("namespace"), item.get("name", kind)


def check_nothing_is_lost(answer: HostAnswer, response: Event) -> None:
    told = "".join(parts_of(response, "output_text", "refusal"))
    assert told == answer.texts("text", "refusal")
    thoughts = "".join(parts_of(response, "reasoning_text", "summary_text"))
    assert thoughts == answer.texts("thought")
    said = [item for item in response["output"] if item["type"] == "message"]
    parts = [part for item in said for part in item["content"]]
    scores = [score for part in parts for score in part.get("logprobs", ())]
    assert [score["token"] for score in scores] == answer.scored
    items = [item for item in response["output"] if "call_id" in item]
    routes = [TABLE.route(call.flat) for call in answer.calls]
    assert sorted(map(repr, map(name_of, items))) == sorted(
        repr((route.kind, route.namespace, route.name)) for route in routes
    )
    made = sorted(json.dumps(meaning(item), sort_keys=True) for item in items)
    assert made == sorted(json.dumps(call.arguments, sort_keys=True) for call in answer.calls)


def output_for(item: Event) -> dict[str, Any]:
    kind = f"{item['type']}_output"
    match item["type"]:
        case "tool_search_call":
            return {
                "type": "tool_search_output",
                "call_id": item["call_id"],
                "execution": "client",
                "tools": [],
            }
        case "apply_patch_call":
            return {"type": kind, "call_id": item["call_id"], "status": "completed"}
        case "shell_call":
            return {"type": kind, "call_id": item["call_id"], "output": []}
        case _:
            return {"type": kind, "call_id": item["call_id"], "output": "ok"}


def check_the_next_request(answer: HostAnswer, response: Event, provider: str) -> None:
    """The client sends all of it back, with the outputs of its tools."""
    outputs = [output_for(item) for item in response["output"] if "call_id" in item]
    body = {
        "model": "qwen3.7-plus",
        "input": [user("go"), *response["output"], *outputs, user("on")],
        "tools": TOOLS,
    }
    _, chat = the_turn(body, provider)
    mine = [message for message in chat["messages"] if message["role"] == "assistant"]
    calls = [call["function"] for message in mine for call in message.get("tool_calls", ())]
    assert sorted(call["name"] for call in calls) == sorted(call.flat for call in answer.calls)
    made = sorted(json.dumps(json.loads(call["arguments"]), sort_keys=True) for call in calls)
    assert made == sorted(json.dumps(call.arguments, sort_keys=True) for call in answer.calls)
    told = "".join(message["content"] for message in mine).replace("\n", "")
    assert told == answer.texts("text", "refusal").replace("\n", "")
    if mine:
        fields = PROFILES[provider].reasoning_fields
        thoughts = "".join(message.get(fields[0], "") for message in mine).replace("\n", "")
        assert thoughts == answer.texts("thought").replace("\n", "")


@cases(200)
@given(
    answer=host_answers(),
    provider=st.sampled_from(sorted(PROFILES)),
    options=st.fixed_dictionaries(
        {"stream": st.booleans()},
        optional={
            "store": st.just(False),
            "reasoning": st.just({"summary": "auto"}),
            "stream_options": st.just({"include_obfuscation": True}),
        },
    ),
    places=st.lists(st.integers(0, 5000), max_size=8),
)
def test_any_answer_reaches_the_client_whole_and_comes_back(
    answer: HostAnswer, provider: str, options: dict[str, Any], places: list[int]
) -> None:
    body = {"model": "qwen3.7-plus", "input": "go", "tools": TOOLS, **options}
    turn, _ = the_turn(body, provider)

    response = answered(turn, cut(answer.stream, places))

    if response is None:
        # The host said nothing, or broke off before a client that does not stream heard of it.
        assert not answer.ends_well or not (answer.said or answer.calls)
        return
    expected = "incomplete" if answer.finish == "length" else "completed"
    assert response["status"] == ("failed" if answer.finish is None else expected)
    check_nothing_is_lost(answer, response)
    if response["status"] == "completed":
        check_the_next_request(answer, response, provider)


@cases(200)
@given(
    turns=st.lists(st.one_of(USER.map(lambda item: [item]), rounds()), max_size=6),
    scattered=st.lists(st.tuples(st.integers(0, 40), ANYWHERE), max_size=3),
    provider=st.sampled_from(sorted(PROFILES)),
    model=st.sampled_from(["qwen3-coder-plus", "qwen3.7-plus", "qwen3.8-max", "qwen3.8-flash"]),
    effort=st.sampled_from([None, "none", "minimal", "medium", "high", "max"]),
    choice=st.sampled_from(["auto", "none", "required"]),
    stream=st.booleans(),
)
def test_any_history_reaches_any_host_whole(
    turns: list[list[dict[str, Any]]],
    scattered: list[tuple[int, dict[str, Any]]],
    provider: str,
    model: str,
    effort: str | None,
    choice: str,
    stream: bool,
) -> None:
    items = [user("go"), *(item for turn in turns for item in turn)]
    for position, item in scattered:
        items.insert(position, item)
    body = {
        "model": model,
        "input": items,
        "tools": TOOLS,
        "tool_choice": choice,
        "reasoning": {"effort": effort},
        "stream": stream,
    }

    _, chat = the_turn(body, provider)

    roles = [message for message in chat["messages"] if message["role"] == "user"]
    users = [item["content"] for item in items if item.get("role") == "user"]
    texts = [text if isinstance(text, str) else text[0]["text"] for text in users]
    found = [first_text(message["content"]) for message in roles]
    assert [text for text in found if not text.startswith("Image result of tool call")] == texts
    said = [item for item in items if item.get("role") == "assistant"]
    told = "\n".join(m["content"] for m in chat["messages"] if m["role"] == "assistant")
    expected = "".join(part["text"] for item in said for part in item["content"])
    assert told.replace("\n", "") == expected.replace("\n", "")
    outputs = [item for item in items if item.get("type", "").endswith("_output")]
    tools = [message for message in chat["messages"] if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in tools] == [item["call_id"] for item in outputs]


def first_text(content: Any) -> str:
    text: str = content if isinstance(content, str) else content[0]["text"]
    return text
