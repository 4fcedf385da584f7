"""The WebSockets that are open, and what their turns have in common (responses-to-chat §13)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

from wsproto.utilities import generate_accept_token

from qwen_mitm.connection_state import ConnectionState
from qwen_mitm.errors import InvalidRequest, UpgradeRefused
from qwen_mitm.exchange import Answer
from qwen_mitm.intake import Arrival
from qwen_mitm.stored_response import ResponseStore

VERSION = "13"
_KEY_BYTES = 16


@dataclass(slots=True)
class OpenSocket:
    arrival: Arrival
    """That of each of its turns: a POST with the headers of the upgrade."""
    state: ConnectionState
    turns: int = 0


class Sockets:
    """By the ids of their flows; turns are flows of their own."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSocket] = {}
        self._turns: dict[str, OpenSocket] = {}

    def open(self, socket_id: str, upgrade: Arrival, store: ResponseStore) -> Answer:
        """The answer that makes a WebSocket of the connection.

        Raises:
            BridgeError: the client's answer instead.
        """
        answer = handshake(upgrade)
        self._open[socket_id] = OpenSocket(turn_arrival(upgrade), ConnectionState(store))
        return answer

    def begin_turn(self, socket_id: str, turn_id: str) -> bool:
        """Whether the socket is known."""
        socket = self._open.get(socket_id)
        if socket is None:
            return False
        socket.turns += 1
        self._turns[turn_id] = socket
        return True

    def of_turn(self, turn_id: str) -> OpenSocket | None:
        return self._turns.get(turn_id)

    def end_turn(self, turn_id: str) -> None:
        self._turns.pop(turn_id, None)

    def close(self, socket_id: str) -> OpenSocket | None:
        return self._open.pop(socket_id, None)

    def clear(self) -> None:
        self._open.clear()
        self._turns.clear()


def handshake(upgrade: Arrival) -> Answer:
    """The answer to an upgrade (RFC 6455 §4.2.2). It takes up no extension and no subprotocol.

    Raises:
        BridgeError: the client's answer instead.
    """
    if upgrade.method != "GET":
        raise UpgradeRefused("A WebSocket is opened with GET.")
    if "upgrade" not in upgrade.header("connection").lower():
        raise InvalidRequest("A WebSocket needs the header 'connection: upgrade'.")
    if upgrade.header("sec-websocket-version") != VERSION:
        raise UpgradeRefused(
            f"Only version {VERSION} of WebSocket is known.",
            headers={"sec-websocket-version": VERSION},
        )
    key = upgrade.header("sec-websocket-key").encode("latin-1")
    try:
        valid = len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        valid = False
    if not valid:
        raise InvalidRequest("The header 'sec-websocket-key' is not a key.")
    fields = (
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-accept", generate_accept_token(key)),
    )
    return Answer(101, fields)


def turn_arrival(upgrade: Arrival) -> Arrival:
    """The arrival of a turn: the upgrade's, but for what is about the upgrade alone."""
    of_the_upgrade = (b"connection", b"upgrade", b"content-", b"sec-websocket-")
    fields = tuple(
        field for field in upgrade.fields if not field[0].lower().startswith(of_the_upgrade)
    )
    return replace(upgrade, method="POST", fields=fields)
