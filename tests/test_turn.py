import gzip
import json
from dataclasses import replace

import pytest

from qwen_mitm.errors import InvalidRequest, UpstreamTimeout
from qwen_mitm.exchange import Broken, FailedAnswer, HeaderFields, Refused, Send
from qwen_mitm.headers import forwarded
from qwen_mitm.intake import Arrival, Surroundings, begin
from qwen_mitm.journey import Recording
from qwen_mitm.providers import PROFILES, Dialect, profile_for
from qwen_mitm.recent_conversations import RecentConversations
from qwen_mitm.relay import Relay
from qwen_mitm.seal import Seal
from qwen_mitm.settings import Settings
from qwen_mitm.translate.demands import Demands
from qwen_mitm.turn import Turn
from qwen_mitm.wire.response_object import JsonObject
from tests.event_checker import check_events, events_of
from tests.responses_checker import check_request
from tests.stored_turns import Nothing
from tests.translate.answers import numbered_ids
from tests.translate.native_answers import call as native_call
from tests.translate.native_answers import completed as native_completed
from tests.translate.native_answers import said as native_said

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

FIELDS: HeaderFields = (
    (b"Host", b"portal.qwen.ai"),
    (b"Authorization", b"Bearer fake-client-key"),
    (b"User-Agent", b"program/1"),
    (b"OpenAI-Beta", b"x"),
    (b"x-codex-window-id", b"x"),
    (b"session-id", b"x"),
    (b"Content-Encoding", b"identity"),
    (b"X-Stainless-Lang", b"python"),
)
SSE: HeaderFields = ((b"Content-Type", b"text/event-stream"), (b"X-Request-Id", b"r1"))
AROUND = Surroundings(
    settings=Settings(),
    clock=lambda: 5.0,
    wall_clock=lambda: 7.0,
    new_id=lambda p: f"{p}_1",
    noise="x".__mul__,
    seal=Seal(bytes(32)),
    store=Nothing(),
    recent=RecentConversations(),
)
PORTAL = Dialect(profile_for("https://portal.qwen.ai/v1"))


def to_portal(model: str, demands: Demands) -> Dialect:
    return PORTAL


def a_turn(*, stream: bool = True, tools: list[object] | None = None, **fields: object) -> Turn:
    body = {"model": "m", "input": "hi", "stream": stream, "tools": tools or []}
    arrival = Arrival("POST", "/v1/responses?beta=true", FIELDS)
    around = replace(AROUND, new_id=numbered_ids())
    turn = begin(arrival, json.dumps(body | fields).encode(), to_portal, around)
    assert isinstance(turn, Turn)
    return turn


def a_relay(path: str, content: bytes = b"") -> Relay:
    relay = begin(Arrival("GET", path, FIELDS), content, to_portal, AROUND)
    assert isinstance(relay, Relay)
    return relay


def sent(turn: Turn) -> Turn:
    turn.sent(Send("work", "https", "portal.qwen.ai", 443, "/v1/chat/completions", (), b""))
    return turn


def terminal(data: bytes) -> dict[str, object]:
    events = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]
    response = events[-1]["response"]
    assert isinstance(response, dict)
    return response


def test_the_upstream_sees_neither_the_clients_credentials_nor_openais_own_headers() -> None:
    names = {name.lower() for name, _ in a_turn().request("/v1", PORTAL).headers}
    assert names == {
        b"user-agent",
        b"x-stainless-lang",
        b"accept",
        b"accept-encoding",
        b"content-type",
    }


def test_the_target_is_chat_completions_under_the_accounts_path_without_the_clients_query() -> None:
    request = a_turn().request("/compatible-mode/v1", PORTAL)
    assert request.target == "/compatible-mode/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/models?x=1", "/compatible-mode/v1/models?x=1"),
        ("/v1", "/compatible-mode/v1"),
        ("/health", "/health"),
        ("/v1beta/x", "/v1beta/x"),
    ],
)
def test_another_path_keeps_its_place_under_the_accounts_base_path(path: str, target: str) -> None:
    assert a_relay(path).request("/compatible-mode/v1", PORTAL).target == target


def test_a_first_event_is_accepted_and_nothing_of_it_is_lost() -> None:
    turn = sent(a_turn())
    assert turn.head(200, SSE) == "offer"
    assert turn.offer(CHUNK[:20]) is False
    assert turn.offer(CHUNK[20:]) is True

    data = turn.accepted() + turn.feed(FINISH) + turn.end()

    assert turn.finished
    assert terminal(data)["status"] == "completed"
    assert b'"delta":"hi"' in data.replace(b'": "', b'":"')


def test_a_heartbeat_is_not_taken_for_the_first_event() -> None:
    turn = sent(a_turn())
    turn.open()
    turn.heartbeat()
    assert turn.first_event_at is None

    turn.head(200, SSE)
    turn.offer(CHUNK)
    turn.accepted()
    assert turn.first_event_at is not None


@pytest.mark.parametrize("wanted", [True, False, None])
def test_every_delta_or_none_is_obfuscated_also_on_the_short_way(wanted: bool | None) -> None:
    turn = sent(a_turn(stream_options={"include_obfuscation": wanted}))
    turn.head(200, SSE)
    turn.offer(CHUNK)
    data = turn.accepted() + b"".join(turn.feed(CHUNK) for _ in range(9)) + turn.feed(FINISH)

    events = events_of(data + turn.end())
    check_events(events)
    deltas = [event for event in events if event["type"].endswith(".delta")]
    assert len(deltas) == 10
    assert {event.get("obfuscation") for event in deltas} == {"x" * 12 if wanted else None}


def test_an_error_as_first_event_is_a_failed_answer() -> None:
    turn = sent(a_turn())
    turn.head(200, SSE)
    verdict = turn.offer(b'data: {"error":{"message":"busy","code":"rate_limit_exceeded"}}\n\n')
    assert isinstance(verdict, FailedAnswer)
    assert verdict.failure.message == "busy"


def test_another_status_than_2xx_is_refused() -> None:
    assert sent(a_turn()).head(503, SSE) == "refuse"


def test_a_client_that_does_not_stream_gets_one_object() -> None:
    turn = sent(a_turn(stream=False))
    turn.head(200, SSE)
    assert turn.offer(CHUNK + FINISH) is False
    assert turn.offer_end() is True

    answer = turn.open()

    assert json.loads(answer.body)["output"][0]["content"][0]["text"] == "hi"
    assert (b"X-Request-Id", b"r1") in answer.fields


def test_an_answer_that_failed_late_has_a_status_of_its_own_when_the_client_does_not_stream() -> (
    None
):
    turn = sent(a_turn(stream=False))
    turn.head(200, SSE)
    turn.offer(CHUNK + b'data: {"error":{"message":"lost it"}}\n\n')
    verdict = turn.offer_end()
    assert isinstance(verdict, FailedAnswer)


def test_an_empty_answer_is_not_accepted() -> None:
    turn = sent(a_turn())
    turn.head(200, SSE)
    assert turn.offer_end() is not True


def test_an_upstream_that_compresses_all_the_same_is_read() -> None:
    turn = sent(a_turn())
    turn.head(200, (*SSE, (b"Content-Encoding", b"gzip")))
    assert turn.offer(gzip.compress(CHUNK + FINISH)) is True
    assert terminal(turn.accepted() + turn.end())["status"] == "completed"


@pytest.mark.parametrize("coding", [b"gzip", b"unheard-of"])
def test_an_answer_that_cannot_be_decoded_is_a_failed_answer(coding: bytes) -> None:
    turn = sent(a_turn())
    turn.head(200, (*SSE, (b"Content-Encoding", coding)))
    verdict = turn.offer(CHUNK)
    assert isinstance(verdict, FailedAnswer)
    assert "decoded" in verdict.failure.message


def test_a_compressed_refusal_is_read_even_when_it_is_cut() -> None:
    body = gzip.compress(json.dumps({"error": {"message": "no quota"}}).encode() + b" " * 200)
    error = a_turn().refusal(Refused(429, {"content-encoding": "gzip"}, body[:-8]), 60)
    assert error.status == 429
    assert error.message == "no quota"


def test_a_lost_upstream_ends_the_stream_with_response_failed() -> None:
    turn = sent(a_turn())
    turn.head(200, SSE)
    turn.offer(CHUNK)
    turn.accepted()

    data = turn.broken(Broken("server closed connection", "answer"))

    assert terminal(data)["status"] == "failed"
    assert data.endswith(b"data: [DONE]\n\n")


def test_an_answer_that_only_lacks_its_end_marker_is_complete() -> None:
    turn = sent(a_turn())
    turn.head(200, SSE)
    turn.offer(CHUNK)
    turn.accepted()
    assert not turn.ending
    turn.feed(FINISH.removesuffix(b"data: [DONE]\n\n"))
    assert turn.ending

    data = turn.broken(Broken("nothing came for 5 s", "answer", timed_out=True))

    assert terminal(data)["status"] == "completed"


def test_giving_up_after_heartbeats_is_a_whole_stream() -> None:
    turn = a_turn()
    turn.open()
    data = turn.heartbeat() + turn.heartbeat() + turn.fail(UpstreamTimeout("nothing came"))
    assert data.count(b"event: response.created") == 1
    assert data.count(b": keep-alive") == 2
    response = terminal(data)
    assert response["status"] == "failed"
    assert "nothing came" in json.dumps(response["error"])


def test_a_second_answer_after_a_failed_one_starts_afresh() -> None:
    turn = sent(a_turn(stream=False))
    turn.head(200, SSE)
    turn.offer(CHUNK)
    turn.head(200, SSE)
    turn.offer(CHUNK + FINISH)
    turn.offer_end()
    assert json.loads(turn.open().body)["output"][0]["content"][0]["text"] == "hi"


def test_what_was_dropped_is_in_the_warnings_header() -> None:
    turn = sent(a_turn(tools=[{"type": "web_search"}]))
    turn.head(200, SSE)
    assert (b"x-bridge-warnings", b"dropped_tool; web_search") in turn.open().fields


def test_the_recording_is_what_the_client_got() -> None:
    turn = sent(a_turn())
    turn.head(200, SSE)
    turn.offer(CHUNK)
    data = turn.accepted() + turn.feed(FINISH) + turn.end()
    assert turn.recording.body() == data


def test_a_relay_passes_bytes_and_status_as_they_are() -> None:
    relay = a_relay("/v1/models")
    relay.sent(Send("work", "https", "portal.qwen.ai", 443, "/v1/models", (), b""))
    fields: HeaderFields = ((b"Content-Type", b"x/y"), (b"Transfer-Encoding", b"chunked"))
    assert relay.head(404, fields) == "accept"
    assert relay.open().status == 404
    assert relay.open().fields == ((b"Content-Type", b"x/y"),)
    assert relay.feed(b"\x00\xff") == b"\x00\xff"


@pytest.mark.parametrize(
    ("agent", "body", "family"),
    [
        (b"opencode/1.18.33 ai-sdk/provider-utils/4", {}, "summary"),
        (b"codex_exec/0.169.0", {}, "summary"),
        (b"OpenAI/Python 3.51.0", {}, "content"),
        (b"OpenAI/Python 3.51.0", {"reasoning": {"summary": "auto"}}, "summary"),
    ],
)
def test_thoughts_are_streamed_in_the_form_that_the_client_shows(
    agent: bytes, body: dict[str, object], family: str
) -> None:
    content = json.dumps({"model": "m", "input": "hi", "stream": True, **body}).encode()
    arrival = Arrival("POST", "/v1/responses", ((b"user-agent", agent),))
    turn = begin(arrival, content, to_portal, AROUND)
    assert isinstance(turn, Turn)
    sent(turn).head(200, SSE)
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
    turn.offer(thought)
    data = turn.accepted()
    assert (b"response.reasoning_summary_text.delta" in data) is (family == "summary")
    assert (b"response.reasoning_text.delta" in data) is (family == "content")


def a_thought(body: dict[str, object]) -> dict[str, object]:
    content = json.dumps({"model": "m", "stream": False, "input": "hi", **body}).encode()
    turn = begin(Arrival("POST", "/v1/responses", FIELDS), content, to_portal, AROUND)
    assert isinstance(turn, Turn)
    sent(turn).head(200, SSE)
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"so it is"}}]}\n\n'
    turn.offer(thought + CHUNK + FINISH)
    turn.offer_end()
    item = json.loads(turn.open().body)["output"][0]
    assert isinstance(item, dict)
    return item


@pytest.mark.parametrize("body", [{"store": False}, {"include": ["reasoning.encrypted_content"]}])
def test_a_thought_survives_to_the_next_turn(body: dict[str, object]) -> None:
    item = a_thought(body)
    replayed = {"type": "reasoning", "summary": [], "encrypted_content": item["encrypted_content"]}
    history = ["hi", replayed, "hello", "again"]
    items = [
        {"role": "user", "content": history[0]},
        history[1],
        {"role": "assistant", "content": history[2]},
        {"role": "user", "content": history[3]},
    ]
    content = json.dumps({"model": "m", "input": items, "store": False}).encode()
    turn = begin(Arrival("POST", "/v1/responses", FIELDS), content, to_portal, AROUND)
    assert isinstance(turn, Turn)
    assert b'"reasoning_content":"so it is"' in turn.request("/v1", PORTAL).body
    assert "so it is" not in str(item["encrypted_content"])


def test_a_thought_that_nobody_asked_to_keep_is_not_sealed() -> None:
    assert not a_thought({}).get("encrypted_content")


def test_a_self_hosted_servers_leaked_thought_and_call_are_mended() -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    turn = a_turn(tools=list[object](tools))
    turn.request("/v1", Dialect(profile_for("http://127.0.0.1:8000/v1", "vllm")))
    sent(turn).head(200, SSE)
    leak = '<think>hm</think><tool_call>{"name":"look","arguments":{"at":1}}</tool_call>'
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": leak}}]})
    turn.offer(f"data: {chunk}\n\n".encode() + FINISH)

    response = terminal(turn.accepted() + turn.end())

    kinds = [item["type"] for item in response["output"]]  # type: ignore[attr-defined]
    assert kinds == ["reasoning", "function_call"]


def test_headers_that_name_the_clients_session_stay_here() -> None:
    assert forwarded(((b"Session-Id", b"1"), (b"X-Own", b"2"))) == ((b"X-Own", b"2"),)


def test_a_recording_is_bounded_and_says_so() -> None:
    recording = Recording(4, lambda: 5.0)
    for piece in (b"abc", b"def", b"ghi"):
        recording.add(piece)
    assert recording.body() == b"abcdef"
    assert recording.cut


def test_a_relayed_refusal_passes_as_it_came_but_for_a_key_that_it_quotes() -> None:
    relay = a_relay("/v1/models")
    bearer = (b"authorization", b"Bearer fake-account-key")
    relay.sent(Send("work", "https", "plan.test", 443, "/v1/models", (bearer,), b""))
    assert relay.head(401, ()) == "refuse"
    body = gzip.compress(b"<h1>no such key: fake-account-key</h1>")
    headers = {"content-encoding": "gzip", "content-type": "text/html", "x-request-id": "r1"}

    error = relay.refusal(Refused(401, headers, body), 60)

    assert (error.status, error.body()) == (401, b"<h1>no such key: (the account's key)</h1>")
    assert error.headers["content-type"] == "text/html"
    assert "content-encoding" not in error.headers


def test_each_account_gets_the_request_that_its_host_takes() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    content = json.dumps({"model": "m", "input": [{"role": "user", "content": [audio]}]}).encode()
    turn = begin(Arrival("POST", "/v1/responses", FIELDS), content, to_portal, AROUND)
    assert isinstance(turn, Turn)
    studio = Dialect(profile_for("https://dashscope.aliyuncs.com/compatible-mode/v1"))

    assert b"audio omitted" in turn.request("/v1", PORTAL).body
    assert "dropped_content" in str(turn.summary()["warnings"])
    assert b"audio omitted" not in turn.request("/v1", studio).body
    assert turn.summary()["warnings"] == ""


STUDIO = Dialect(PROFILES["dashscope"])
NATIVE = PROFILES["dashscope"].dialect("responses", "qwen3.7-plus")


def patching(turn_: Turn, dialect: Dialect) -> bytes:
    """What the client gets when this host calls the freeform tool."""
    request = turn_.request("/v1", dialect)
    sent(turn_).head(200, SSE)
    arguments = json.dumps({"input": "*** Begin"})
    if request.target == "/v1/responses":
        answer = native_call(0, "patch", arguments) + native_completed()
    else:
        function = {"name": "patch", "arguments": arguments}
        calls = [{"index": 0, "id": "c", "function": function}]
        chunk = {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}
        answer = f"data: {json.dumps(chunk)}\n\n".encode() + FINISH
    assert turn_.offer(answer) is True
    return turn_.accepted() + turn_.end()


@pytest.mark.parametrize("order", [(STUDIO, NATIVE), (NATIVE, STUDIO)], ids=["there", "back"])
@pytest.mark.parametrize("waits", [True, False])
def test_a_request_goes_on_with_an_account_of_the_other_api(
    order: tuple[Dialect, Dialect], waits: bool
) -> None:
    first, second = order
    turn = a_turn(tools=[{"type": "custom", "name": "patch"}])
    data = b""
    if waits:
        turn.open()
        data = turn.heartbeat()
    turn.request("/v1", first)
    sent(turn).head(200, SSE)
    error = b'event: error\ndata: {"type":"error","message":"busy","code":"slow_down"}\n\n'
    assert isinstance(turn.offer(error), FailedAnswer)

    data += patching(turn, second)

    events = events_of(data.replace(b": keep-alive\n\n", b""))
    check_events(events)
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", "*** Begin")
    assert events[-1]["response"]["tools"] == [{"type": "custom", "name": "patch"}]


def test_a_response_that_fails_at_once_can_be_tried_elsewhere() -> None:
    turn = a_turn()
    turn.request("/v1", NATIVE)
    sent(turn).head(200, SSE)
    begun = b'data: {"type":"response.created","response":{"id":"r","status":"queued"}}\n\n'
    failed = b'data: {"type":"response.failed","response":{"error":{"message":"busy"}}}\n\n'
    assert turn.offer(begun) is False
    verdict = turn.offer(failed)
    assert isinstance(verdict, FailedAnswer)
    assert verdict.failure.message == "busy"


def test_a_host_that_speaks_responses_gets_them_and_one_object_comes_back() -> None:
    turn = a_turn(stream=False)
    request = turn.request("/compatible-mode/v1", NATIVE)
    assert request.target == "/compatible-mode/v1/responses"
    check_request(json.loads(request.body))
    sent(turn).head(200, SSE)
    output = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    document = {"object": "response", "status": "completed", "output": [output]}
    assert turn.offer(json.dumps(document).encode()) is False
    assert turn.offer_end() is True
    assert json.loads(turn.open().body)["output"][0]["content"][0]["text"] == "hi"


def test_what_a_host_encrypted_goes_back_to_it_and_to_no_other() -> None:
    body = {"model": "qwen3.7-plus", "stream": True, "store": False, "input": "hi"}
    arrival = Arrival("POST", "/v1/responses", FIELDS)
    turn = begin(arrival, json.dumps(body).encode(), to_portal, AROUND)
    assert isinstance(turn, Turn)
    assert b"reasoning.encrypted_content" in turn.request("/v1", NATIVE).body
    sent(turn).head(200, SSE)
    thought: JsonObject = {
        "type": "reasoning",
        "summary": [{"text": "shown"}],
        "encrypted_content": "gAAA",
    }
    turn.offer(native_said("output_item.done", output_index=0, item=thought) + native_completed())
    (item,) = events_of(turn.accepted())[-1]["response"]["output"]
    assert item["encrypted_content"].startswith("qm1.")

    said = [item, {"role": "assistant", "content": "so"}, {"role": "user", "content": "go on"}]
    again = begin(arrival, json.dumps({**body, "input": said}).encode(), to_portal, AROUND)
    assert isinstance(again, Turn)
    elsewhere = PROFILES["openrouter"].dialect("responses", "m")
    assert b"gAAA" in again.request("/v1", NATIVE).body
    for dialect in (elsewhere, STUDIO):
        request = again.request("/v1", dialect)
        assert b"gAAA" not in request.body
        assert b"qm1." not in request.body
        assert b"shown" in request.body


def test_a_request_that_was_edited_is_sent_so_and_to_no_host_of_another_kind() -> None:
    turn = a_turn()
    turn.edit(turn.preview().replace(b"hi", b"bye"))
    assert turn.is_edited
    assert b"bye" in turn.request("/v1", PORTAL).body
    native = Dialect(PROFILES["dashscope"], "responses")
    with pytest.raises(InvalidRequest, match="edited by hand"):
        turn.request("/v1", native)
    with pytest.raises(InvalidRequest, match="edited by hand"):
        turn.chat(PORTAL)
