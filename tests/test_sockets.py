from __future__ import annotations

import pytest

from qwen_mitm.errors import BridgeError, InvalidRequest, UpgradeRefused
from qwen_mitm.exchange import HeaderFields
from qwen_mitm.intake import Arrival
from qwen_mitm.sockets import Sockets, handshake, turn_arrival
from tests.stored_turns import Nothing

FIELDS: HeaderFields = (
    (b"Host", b"portal.qwen.ai"),
    (b"Authorization", b"Bearer fake-client-key"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"WebSocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
    (b"Sec-WebSocket-Protocol", b"realtime"),
    (b"User-Agent", b"program/1"),
)


def upgrade(method: str = "GET", **changed: bytes | None) -> Arrival:
    wanted = {name.replace("_", "-").encode(): value for name, value in changed.items()}
    kept = (field for field in FIELDS if field[0].lower() not in wanted)
    added = ((name, value) for name, value in wanted.items() if value is not None)
    return Arrival(method, "/v1/responses?x=1", (*kept, *added))


def test_the_answer_proves_that_the_key_was_read_and_takes_up_nothing_that_was_offered() -> None:
    answer = handshake(upgrade())
    assert (answer.status, answer.body) == (101, b"")
    # The example of RFC 6455 §1.3.
    assert dict(answer.fields) == {
        b"connection": b"Upgrade",
        b"upgrade": b"websocket",
        b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    }


@pytest.mark.parametrize(
    ("arrival", "error"),
    [
        (upgrade("POST"), UpgradeRefused),
        (upgrade(connection=b"keep-alive"), InvalidRequest),
        (upgrade(sec_websocket_version=b"8"), UpgradeRefused),
        (upgrade(sec_websocket_version=None), UpgradeRefused),
        (upgrade(sec_websocket_key=None), InvalidRequest),
        (upgrade(sec_websocket_key=b"c2hvcnQ="), InvalidRequest),
        (upgrade(sec_websocket_key=b"\xff"), InvalidRequest),
    ],
    ids=["method", "connection", "version", "no version", "no key", "short key", "no base64"],
)
def test_an_upgrade_that_is_none_is_refused(arrival: Arrival, error: type[BridgeError]) -> None:
    with pytest.raises(error) as refused:
        handshake(arrival)
    if arrival.header("sec-websocket-version") != "13":
        assert refused.value.headers == {"sec-websocket-version": "13"}


def test_a_turn_arrives_as_a_post_with_the_key_of_the_upgrade() -> None:
    turn = turn_arrival(upgrade())
    assert (turn.method, turn.path, turn.upgrades) == ("POST", "/v1/responses?x=1", False)
    assert {name.lower() for name, _ in turn.fields} == {b"host", b"authorization", b"user-agent"}


def test_the_turns_of_a_socket_share_their_state_and_those_of_another_do_not() -> None:
    sockets = Sockets()
    for socket in ("s1", "s2"):
        sockets.open(socket, upgrade(), Nothing())
    assert sockets.begin_turn("s1", "t1")
    assert sockets.begin_turn("s1", "t2")
    assert sockets.begin_turn("s2", "t3")
    first, second, third = map(sockets.of_turn, ("t1", "t2", "t3"))
    assert first
    assert first is second is not third
    assert first.turns == 2


def test_nothing_is_kept_of_turns_and_sockets_that_have_ended() -> None:
    sockets = Sockets()
    sockets.open("s1", upgrade(), Nothing())
    sockets.begin_turn("s1", "t1")
    sockets.end_turn("t1")
    assert sockets.of_turn("t1") is None
    assert sockets.close("s1")
    assert sockets.close("s1") is None
    assert not sockets.begin_turn("s1", "t2")
    assert sockets.of_turn("t2") is None


def test_an_upgrade_that_was_refused_opens_nothing() -> None:
    sockets = Sockets()
    with pytest.raises(InvalidRequest):
        sockets.open("s1", upgrade(sec_websocket_key=None), Nothing())
    assert not sockets.begin_turn("s1", "t1")
