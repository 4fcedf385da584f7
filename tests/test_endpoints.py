import json
from typing import Any

import pytest

from qwen_mitm.connection_state import ConnectionState
from qwen_mitm.endpoints import answer
from qwen_mitm.errors import BridgeError, InvalidRequest
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.responses import ResponsesRequest
from tests.stored_turns import Nothing, expanded, response, says, turn, user


@pytest.fixture
def store() -> ConnectionState:
    kept = ConnectionState(Nothing())
    kept.save(turn(response("resp_1", says("hello", "msg_1")), *(user(f"{n}") for n in range(25))))
    return kept


def counted(request: ResponsesRequest) -> int:
    return len(request.input or ())


# Any: what tests look into is JSON of any shape.
def ask(store: ConnectionState, method: str, path: str, body: JsonObject | None = None) -> Any:
    """The JSON of the answer; None if it is somebody else's business."""
    given = answer(method, path, lambda: json.dumps(body).encode(), store, counted)
    if given is None:
        return None
    assert given.status == 200
    assert given.fields == ((b"content-type", b"application/json"),)
    return json.loads(given.body)


def refusal(
    store: ConnectionState, method: str, path: str, body: JsonObject | None = None
) -> BridgeError:
    with pytest.raises(BridgeError) as refused:
        ask(store, method, path, body)
    error = json.loads(refused.value.body())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return refused.value


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_1",
        "/responses/resp_1/",
        "/compatible-mode/v1/responses/resp_1?stream=false&include=x",
        "/v1/responses/resp_1?starting_after=",
    ],
)
def test_a_stored_response_is_returned(store: ConnectionState, path: str) -> None:
    assert ask(store, "GET", path) == response("resp_1", says("hello", "msg_1"))


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")],
)
def test_an_unknown_response_is_not_found(store: ConnectionState, method: str, rest: str) -> None:
    error = refusal(store, method, f"/v1/responses/resp_9{rest}")
    assert (error.status, error.message) == (404, "Response with id 'resp_9' not found.")


@pytest.mark.parametrize("query", ["stream=true", "starting_after=4", "stream=True&x=1"])
def test_the_events_of_a_stored_response_cannot_be_replayed(
    store: ConnectionState, query: str
) -> None:
    error = refusal(store, "GET", f"/v1/responses/resp_1?{query}")
    assert (error.status, error.param) == (400, query.partition("=")[0])


def test_a_deleted_response_is_gone(store: ConnectionState) -> None:
    assert ask(store, "DELETE", "/v1/responses/resp_1") == {
        "id": "resp_1",
        "object": "response",
        "deleted": True,
    }
    assert refusal(store, "GET", "/v1/responses/resp_1").status == 404
    assert refusal(store, "DELETE", "/v1/responses/resp_1").status == 404
    with pytest.raises(InvalidRequest) as refused:
        expanded(store, "more", previous="resp_1")
    assert refused.value.code == "previous_response_not_found"


def texts(page: Any) -> list[str]:
    return [item["content"][0]["text"] for item in page["data"]]


def test_input_items_come_newest_first_twenty_at_a_time(store: ConnectionState) -> None:
    page = ask(store, "GET", "/v1/responses/resp_1/input_items")
    assert page["object"] == "list"
    assert texts(page) == [str(number) for number in range(24, 4, -1)]
    assert page["has_more"] is True
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])


def test_input_items_go_on_after_the_last_one(store: ConnectionState) -> None:
    found: list[str] = []
    after = ""
    while True:
        path = f"/v1/responses/resp_1/input_items?order=asc&limit=10{after}"
        page = ask(store, "GET", path)
        found += texts(page)
        after = f"&after={page['last_id']}"
        if not page["has_more"]:
            break
    assert found == [str(number) for number in range(25)]


def test_the_end_of_the_input_items_is_an_empty_page(store: ConnectionState) -> None:
    every = ask(store, "GET", "/v1/responses/resp_1/input_items?limit=100")
    path = f"/v1/responses/resp_1/input_items?after={every['last_id']}"
    assert ask(store, "GET", path) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("order=up", "order"),
        ("after=msg_unknown", "after"),
    ],
)
def test_a_page_that_cannot_be_is_refused(store: ConnectionState, query: str, param: str) -> None:
    error = refusal(store, "GET", f"/v1/responses/resp_1/input_items?{query}")
    assert (error.status, error.param) == (400, param)


def test_a_response_that_does_not_run_in_the_background_cannot_be_cancelled(
    store: ConnectionState,
) -> None:
    assert refusal(store, "POST", "/v1/responses/resp_1/cancel").status == 400


def test_input_tokens_are_counted(store: ConnectionState) -> None:
    body: JsonObject = {"input": [user("a"), user("b")]}
    assert ask(store, "POST", "/v1/responses/input_tokens", body) == {
        "object": "response.input_tokens",
        "input_tokens": 2,
    }


def test_input_tokens_of_a_continued_conversation_count_all_of_it(store: ConnectionState) -> None:
    body: JsonObject = {"previous_response_id": "resp_1", "input": "more"}
    assert ask(store, "POST", "/v1/responses/input_tokens", body)["input_tokens"] == 27


def test_input_tokens_of_a_bad_request_are_refused(store: ConnectionState) -> None:
    body: JsonObject = {"input": [{"role": "wizard", "content": "hi"}]}
    error = refusal(store, "POST", "/v1/responses/input_tokens", body)
    assert (error.status, error.param) == (400, "input[0].role")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/responses/resp_1", "GET, DELETE"),
        ("POST", "/v1/responses/resp_1", "GET, DELETE"),
        ("POST", "/v1/responses/resp_1/input_items", "GET"),
        ("GET", "/v1/responses/resp_1/cancel", "POST"),
    ],
)
def test_other_methods_are_refused(
    store: ConnectionState, method: str, path: str, allowed: str
) -> None:
    error = refusal(store, method, path)
    assert (error.status, error.headers["allow"]) == (405, allowed)


def test_an_unknown_part_of_a_response_is_not_found(store: ConnectionState) -> None:
    assert refusal(store, "GET", "/v1/responses/resp_1/events").status == 404


@pytest.mark.parametrize("path", ["/v1/conversations", "/conversations/conv_1/items/msg_1?x=1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_there_are_no_conversations(store: ConnectionState, method: str, path: str) -> None:
    assert refusal(store, method, path).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/responses"),
        ("GET", "/v1/responses"),
        ("GET", "/v1/responses/"),
        ("POST", "/v1/responses/compact"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/files/responses"),
        ("GET", "/v1/conversations-of-mine"),
    ],
)
def test_other_requests_are_left_to_others(store: ConnectionState, method: str, path: str) -> None:
    assert ask(store, method, path) is None
