from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from qwen_mitm.providers import PROFILES
from qwen_mitm.seal import Seal
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import parse_request
from tests.cases import cases
from tests.translate.answers import plain_context
from tests.translate.native_answers import (
    USAGE,
    NativeAnswer,
    added,
    arguments,
    call,
    completed,
    done,
    incomplete,
    native,
    said,
    text,
)
from tests.translate.sending import translated

TRANSCRIPTS = Path(__file__).parents[1] / "fixtures" / "native_transcripts"
CASES = sorted(path.name for path in TRANSCRIPTS.iterdir())
TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
    {"type": "shell"},
]
TABLE = translated({"input": "x", "tools": TOOLS}).tools
DONE = b"data: [DONE]\n\n"


def transcript(case: str, pieces: list[bytes]) -> NativeAnswer:
    request = (TRANSCRIPTS / case / "request.json").read_bytes()
    dialect = PROFILES["dashscope"].dialect("responses", "qwen3.7-plus")
    translation = translate(parse_request(request), profile=dialect.profile, wire=dialect.wire)
    summary = translation.echo.reasoning["summary"]
    context = replace(
        plain_context(),
        echo=translation.echo,
        tools=translation.tools,
        reasoning="content" if summary is None else "summary",
        estimated_input_tokens=translation.estimated_input_tokens,
    )
    return NativeAnswer(pieces, context)


def upstream(case: str) -> bytes:
    return (TRANSCRIPTS / case / "upstream.sse").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_a_hosts_own_answer_becomes_the_expected_events(
    case: str, pytestconfig: pytest.Config
) -> None:
    answer = transcript(case, [upstream(case)])
    expected = TRANSCRIPTS / case / "expected.jsonl"
    if pytestconfig.getoption("--update"):
        lines = [json.dumps(event, ensure_ascii=False) for event in answer.events]
        expected.write_text("\n".join(lines) + "\n")
    assert answer.events == [json.loads(line) for line in expected.read_text().splitlines()]


@cases(200)
@given(case=st.sampled_from(CASES), data=st.data())
def test_events_do_not_depend_on_how_the_bytes_are_cut(case: str, data: st.DataObject) -> None:
    stream = upstream(case)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    assert transcript(case, pieces).stream == transcript(case, [stream]).stream


@cases(200)
@given(case=st.sampled_from(CASES), data=st.data())
def test_an_answer_that_breaks_off_anywhere_is_a_valid_stream(
    case: str, data: st.DataObject
) -> None:
    stream = upstream(case)
    transcript(case, [stream[: data.draw(st.integers(0, len(stream)))]])


numbers = st.integers(0, 3) | st.none()
pieces = st.one_of(
    st.builds(text, st.text(max_size=4), numbers),
    st.builds(arguments, st.text(max_size=4), numbers),
    st.builds(
        added,
        numbers,
        st.sampled_from(["message", "reasoning", "function_call", "web_search_call"]),
        id=st.sampled_from(["a", "b", ""]) | st.none(),
        name=st.sampled_from(["f", "patch", "n__f", "shell", "unheard_of", ""]),
        call_id=st.sampled_from(["c", "d", ""]),
    ),
    st.builds(
        done,
        numbers,
        st.sampled_from(["message", "reasoning", "function_call", "web_search_call"]),
        name=st.sampled_from(["f", "patch", "shell"]),
        arguments=st.text(max_size=4) | st.just('{"input":"x"}') | st.none(),
        content=st.lists(
            st.fixed_dictionaries({"type": st.just("output_text"), "text": st.text(max_size=4)})
        ),
    ),
    st.builds(
        said,
        st.sampled_from(
            [
                "refusal.delta",
                "output_text.done",
                "reasoning_text.delta",
                "reasoning_summary_text.delta",
                "reasoning_summary_text.done",
                "content_part.added",
                "content_part.done",
                "function_call_arguments.done",
            ]
        ),
        output_index=numbers,
        delta=st.text(max_size=4),
        text=st.text(max_size=4) | st.integers(),
        part=st.just({"type": "output_text", "text": "ab", "annotations": [{"type": "x"}]})
        | st.none(),
        summary_index=numbers,
        content_index=numbers,
    ),
    st.just(b"data: not json\n\n"),
    st.just(b": comment\n\n"),
    st.builds(completed, st.just({"type": "message", "content": [{"text": "late"}]})),
    st.just(incomplete("max_output_tokens")),
    st.just(said("failed", response={"error": {"code": "rate_limit_exceeded", "message": "no"}})),
)


@cases(500)
@given(st.lists(pieces, max_size=14), st.sampled_from([b"", DONE, completed(), incomplete("x")]))
def test_whatever_a_host_says_becomes_a_valid_stream(said_: list[bytes], end: bytes) -> None:
    native(*said_, end, tools=TABLE)


@cases(200)
@given(st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=5)), max_size=12))
def test_no_text_is_lost_wherever_it_belongs(deltas: list[tuple[int, str]]) -> None:
    made = native(*(text(delta, index) for index, delta in deltas), completed())
    assert "".join(made.texts) == "".join(delta for _, delta in deltas)


def test_the_ids_and_numbers_are_ours_and_the_usage_is_the_hosts() -> None:
    made = native(
        said("created", response={"id": "host-1", "status": "in_progress"}),
        added(4, "message", id="their-id"),
        text("hi", 4),
        done(4, "message", id="their-id"),
        completed(),
    )
    assert made.response["id"] == "resp_1"
    assert made.output[0]["id"] == "msg_1"
    counted = made.response["usage"]
    assert counted["total_tokens"] == USAGE["total_tokens"]
    assert counted["input_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 0}


def test_a_flattened_tool_comes_back_as_what_the_client_declared() -> None:
    made = native(
        call(0, "patch", '{"input": "*** Begin\\n+\\u00e9"}', "call_a"),
        call(1, "n__f", '{"a": 1}', "call_b"),
        call(2, "shell", '{"commands": ["ls"]}', "call_c"),
        completed(),
        tools=TABLE,
    )
    custom, member, shell = made.output
    assert (custom["type"], custom["input"]) == ("custom_tool_call", "*** Begin\n+é")
    assert (member["name"], member["namespace"]) == ("f", "n")
    assert shell["action"] == {"commands": ["ls"]}
    assert "custom_tool_call_input.delta" in made.types
    assert [item["call_id"] for item in made.output] == ["call_a", "call_b", "call_c"]


def test_a_call_is_done_before_the_answer_is() -> None:
    made = native(call(0, "f", "{}", "a"), call(1, "f", "{}", "b"), completed(), tools=TABLE)
    assert made.types.index("output_item.done") < made.types.index("output_item.added", 4)


def test_a_call_outside_of_allowed_tools_is_suppressed() -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "shell"}]}
    table = translated({"input": "x", "tools": TOOLS, "tool_choice": allowed}).tools
    made = native(
        call(0, "f", "{}"), call(1, "shell", '{"commands": []}'), completed(), tools=table
    )
    assert [item["type"] for item in made.output] == ["shell_call"]


def test_a_call_that_breaks_off_is_no_whole_one() -> None:
    made = native(call(0, "f", '{"a": "b'), completed(), tools=TABLE)
    assert made.status == "incomplete"
    assert made.output[0]["status"] == "incomplete"


def test_what_the_host_encrypted_is_sealed_for_this_host() -> None:
    seal = Seal(bytes(32))
    made = native(
        added(0, "reasoning", id="r"),
        said("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="one"),
        said("reasoning_summary_text.delta", output_index=0, summary_index=1, delta="two"),
        done(0, "reasoning", id="r", encrypted_content="gAAA"),
        added(1, "reasoning"),
        said("reasoning_text.delta", output_index=1, delta="three"),
        done(1, "reasoning"),
        completed(),
        reasoning="summary",
        seal=lambda thought: seal.seal("thought", thought),
        seal_of_host=lambda blob: seal.seal("of a host", blob),
    )
    first, second = made.output
    assert [part["text"] for part in first["summary"]] == ["one", "two"]
    assert seal.unseal("of a host", first["encrypted_content"]) == "gAAA"
    assert seal.unseal("thought", first["encrypted_content"]) is None
    assert [part["text"] for part in second["summary"]] == ["three"]
    assert seal.unseal("thought", second["encrypted_content"]) == "three"


def test_a_hosts_own_search_passes_with_its_sources() -> None:
    source: JsonValue = {"type": "url_citation", "url": "https://example.com/", "title": "E"}
    part: JsonValue = {"type": "output_text", "text": "so", "annotations": [source]}
    made = native(
        added(0, "web_search_call", id="ws_1", status="in_progress"),
        said("web_search_call.searching", output_index=0, item_id="ws_1", query="q"),
        done(0, "web_search_call", id="ws_1", action={"type": "search", "query": "q"}),
        added(1, "message"),
        text("so", 1),
        said("output_text.annotation.added", output_index=1, annotation=source),
        done(1, "message", content=[part]),
        completed(),
    )
    search, message = made.output
    assert search["action"] == {"type": "search", "query": "q"}
    assert message["content"][0]["annotations"] == [source]
    (searching,) = [e for e in made.events if e["type"] == "response.web_search_call.searching"]
    assert searching["query"] == "q"


def test_what_was_never_streamed_comes_from_the_end() -> None:
    message: JsonObject = {
        "type": "message",
        "id": "m",
        "content": [{"type": "output_text", "text": "all of it"}],
    }
    assert native(completed(message)).texts == ["all of it"]
    half = native(added(0, "message", id="m"), text("all"), completed(message))
    assert half.texts == ["all of it"]


def test_one_document_is_an_answer_too() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]
    document = {"object": "response", "status": "completed", "output": output, "usage": USAGE}
    made = native(json.dumps(document).encode())
    assert made.texts == ["hi"]
    assert made.status == "completed"


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_an_answer_that_was_cut_says_why(reason: str) -> None:
    made = native(added(0, "message"), text("so"), incomplete(reason))
    assert made.response["incomplete_details"] == {"reason": reason}
    assert made.output[0]["status"] == "incomplete"


@pytest.mark.parametrize(
    "error",
    [
        said("failed", response={"error": {"code": "rate_limit_exceeded", "message": "slow"}}),
        b'event: error\ndata: {"type":"error","code":"rate_limit_exceeded","message":"slow"}\n\n',
        b'data: {"type":"error","error":{"code":"rate_limit_exceeded","message":"slow"}}\n\n',
        b'data: {"error":{"code":"rate_limit_exceeded","message":"slow"}}\n\n',
    ],
)
def test_an_error_of_any_shape_ends_the_answer(error: bytes) -> None:
    made = native(added(0, "message"), text("so"), error, text("more"))
    assert made.response["error"] == {"code": "rate_limit_exceeded", "message": "slow"}
    assert made.texts == ["so"]


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([], "failed"),
        ([added(0, "message"), text("so")], "failed"),
        ([added(0, "message"), text("so"), DONE], "failed"),
        ([added(0, "message"), text("so"), done(0, "message"), DONE], "completed"),
        ([text("so"), completed(), DONE], "completed"),
        ([completed(), text("late")], "completed"),
        ([b"<html>no</html>"], "failed"),
        ([b'{"choices": []}'], "failed"),
    ],
)
def test_there_is_one_end_whatever_the_host_does(pieces: list[bytes], status: str) -> None:
    assert native(*pieces).status == status


def test_text_that_goes_on_after_a_thought_is_another_message() -> None:
    made = native(
        text("a", 0),
        said("reasoning_text.delta", output_index=1, delta="hm"),
        text("b", 0),
        completed(),
    )
    assert [item["type"] for item in made.output] == ["message", "reasoning", "message"]


def test_a_stream_that_ends_early_is_told() -> None:
    made = native(text("a"))
    assert "before the answer was finished" in made.response["error"]["message"]
