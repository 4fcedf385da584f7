import json

from qwen_mitm.web_chat.envelope import (
    chat_mode,
    completion_payload,
    completion_target,
    request_headers,
)
from tests.web_chat.keys import credentials
from tests.web_chat.pieces import CHAT, PARENT, chat, user

GUEST = credentials()
PERSON = credentials("0001", 2_000_000_000)


def test_the_id_of_a_chat_is_quoted() -> None:
    assert completion_target(CHAT) == f"/api/v2/chat/completions?chat_id={CHAT}"
    assert completion_target("a b&c/d") == "/api/v2/chat/completions?chat_id=a%20b%26c%2Fd"


def test_who_has_no_login_is_a_guest() -> None:
    assert (chat_mode(GUEST), chat_mode(PERSON)) == ("guest", "normal")


def test_requests_have_our_own_name_and_nothing_of_a_browser() -> None:
    headers = request_headers(PERSON, streams=True)
    assert headers.keys() == {
        "bx-umidtoken",
        "cookie",
        "authorization",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        "version",
    }
    assert headers["user-agent"].startswith("qwen-mitm/")
    assert headers["accept"] == "text/event-stream"


def test_what_the_request_wants_is_in_the_message() -> None:
    asked = chat(user("Hi"), model="m", effort="low", temperature=0.5, top_p=0.9, max_tokens=7)
    payload = completion_payload(
        asked, PERSON, "Hi", chat_id=CHAT, parent_id=PARENT, fid="f", now_s=3
    )
    document = json.loads(payload.encoded())
    message = document["messages"][0]
    assert (document["model"], document["chat_mode"]) == ("m", "normal")
    assert (document["parent_id"], message["parentId"]) == (PARENT, PARENT)
    assert (document["temperature"], document["top_p"], document["max_tokens"]) == (0.5, 0.9, 7)
    assert message["feature_config"]["thinking_enabled"] is True
