"""Stored responses as rows of SQLite."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from operator import itemgetter
from typing import Any, Final, Literal

from pydantic_core import from_json

from qwen_mitm.stored_response import StoredResponse, chain, encoded, item_id
from qwen_mitm.wire.response_object import JsonObject

VERSION: Final = 1

# A node is an item after all those before it, so that a conversation is stored once however often
# it is continued, forked or sent again. Node 0 is the beginning and has no row. ``echo`` is a node
# without a conversation: what responses repeat of the request, which is the same in each turn.
SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    key BLOB NOT NULL UNIQUE,
    item_id TEXT,
    item BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS node_parent ON node (parent);
CREATE INDEX IF NOT EXISTS node_item_id ON node (item_id) WHERE item_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS response (
    id TEXT PRIMARY KEY,
    saved_at INTEGER NOT NULL,
    input INTEGER NOT NULL,
    head INTEGER NOT NULL,
    echo INTEGER NOT NULL,
    rest BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS response_saved_at ON response (saved_at);
CREATE INDEX IF NOT EXISTS response_head ON response (head);
CREATE INDEX IF NOT EXISTS response_echo ON response (echo);
PRAGMA user_version = {VERSION};
"""

#: What responses repeat of the request, and what makes them large.
_ECHOED: Final = ("instructions", "tools", "text")
_ECHO_KEY: Final = b"echo"
#: Responses that one transaction removes.
_STEP: Final = 8

# From the node that is asked for up to the one before which it ends. SQLite would copy all items
# to sort them.
_CHAIN: Final = """
WITH RECURSIVE chain (id, parent, depth) AS (
    SELECT id, parent, 0 FROM node WHERE id = :head AND id <> :before
    UNION ALL
    SELECT up.id, up.parent, depth + 1
        FROM chain JOIN node AS up ON up.id = chain.parent WHERE up.id <> :before
)
SELECT depth, key, item FROM chain CROSS JOIN node ON node.id = chain.id
"""
_RELEASE: Final = """
DELETE FROM node WHERE id IN (
    WITH RECURSIVE unneeded (id, parent) AS (
        SELECT id, parent FROM node AS last WHERE id = ?
            AND NOT EXISTS (SELECT 1 FROM node WHERE parent = last.id)
            AND NOT EXISTS (SELECT 1 FROM response WHERE head = last.id)
            AND NOT EXISTS (SELECT 1 FROM response WHERE echo = last.id)
        UNION ALL
        SELECT up.id, up.parent FROM unneeded JOIN node AS up ON up.id = unneeded.parent
            WHERE NOT EXISTS (SELECT 1 FROM node WHERE parent = up.id AND id <> unneeded.id)
            AND NOT EXISTS (SELECT 1 FROM response WHERE head = up.id)
    )
    SELECT id FROM unneeded
)
"""


class ResponseRows:
    """A response as rows; everything that takes time is done before the file is locked."""

    def __init__(self, stored: StoredResponse) -> None:
        response = stored.response
        self.id = stored.id
        self.items = (*stored.input, *stored.output)
        self.inputs = len(stored.input)
        self.keys = list(chain(self.items))
        self.echo = encoded({name: response.get(name) for name in _ECHOED})
        self.echo_key = next(chain([self.echo], _ECHO_KEY))
        left_out = {*_ECHOED, "output"}
        self.rest = encoded({k: v for k, v in response.items() if k not in left_out})

    def write(self, connection: sqlite3.Connection, now: int) -> int:
        """Insert what is not there yet; returns how many bytes that were."""
        remove(connection, self.id)
        # A node is there only if all those before it are.
        known = bisect_left(self.keys, True, key=lambda key: _node(connection, key) is None)
        head = self._node_before(connection, known)
        for item, key in zip(self.items[known:], self.keys[known:], strict=True):
            head = _insert(connection, head, key, item_id(from_json(item), key), item)
        echo = _node(connection, self.echo_key)
        if echo is None:
            echo = _insert(connection, 0, self.echo_key, None, self.echo)
        read = self._node_before(connection, self.inputs)
        connection.execute(
            "INSERT INTO response VALUES (?, ?, ?, ?, ?, ?)",
            (self.id, now, read, head, echo, self.rest),
        )
        return sum(map(len, self.items[known:])) + len(self.rest)

    def _node_before(self, connection: sqlite3.Connection, index: int) -> int:
        return (_node(connection, self.keys[index - 1]) or 0) if index else 0


def _node(connection: sqlite3.Connection, key: bytes) -> int | None:
    row = connection.execute("SELECT id FROM node WHERE key = ?", (key,)).fetchone()
    return None if row is None else int(row[0])


def _insert(
    connection: sqlite3.Connection, parent: int, key: bytes, name: str | None, item: bytes
) -> int:
    query = "INSERT INTO node (parent, key, item_id, item) VALUES (?, ?, ?, ?)"
    return connection.execute(query, (parent, key, name, item)).lastrowid or 0


def remove(connection: sqlite3.Connection, response_id: str) -> bool:
    """The response, and the nodes that no other one needs."""
    row = connection.execute(
        "DELETE FROM response WHERE id = ? RETURNING head, echo", (response_id,)
    ).fetchone()
    if row is None:
        return False
    for node in row:
        connection.execute(_RELEASE, (node,))
    return True


def read_response(
    connection: sqlite3.Connection, response_id: str, since: int
) -> JsonObject | None:
    """The Response object, if it was saved since then."""
    tables = "response JOIN node ON node.id = response.echo"
    with _snapshot(connection):
        row = _row(connection, "input, head, item, rest", tables, response_id, since)
        if row is None:
            return None
        before, head, echo, rest = row
        output = _chain(connection, head, before=before)
    items = [from_json(item) for _, item in output]
    return {**from_json(rest), **from_json(echo), "output": items}


def read_items(
    connection: sqlite3.Connection,
    response_id: str,
    since: int,
    last: Literal["input", "head"],
) -> list[tuple[bytes, bytes]] | None:
    """Keys and items of a conversation, up to a response's last input or last output item."""
    with _snapshot(connection):
        row = _row(connection, last, "response", response_id, since)
        return None if row is None else _chain(connection, row[0])


def read_item(connection: sqlite3.Connection, name: str) -> bytes | None:
    # The model's own item is older than what clients make of it when they send it again.
    query = "SELECT item FROM node WHERE item_id = ? ORDER BY id LIMIT 1"
    row = connection.execute(query, (name,)).fetchone()
    return None if row is None else bytes(row[0])


# A row's columns have the types that they were inserted with.
def _row(
    connection: sqlite3.Connection, columns: str, tables: str, response_id: str, since: int
) -> tuple[Any, ...] | None:
    query = f"SELECT {columns} FROM {tables} WHERE response.id = ? AND saved_at >= ?"
    row: tuple[Any, ...] | None = connection.execute(query, (response_id, since)).fetchone()
    return row


def _chain(
    connection: sqlite3.Connection, head: int, *, before: int = 0
) -> list[tuple[bytes, bytes]]:
    rows = connection.execute(_CHAIN, {"head": head, "before": before}).fetchall()
    return [(key, item) for _, key, item in sorted(rows, key=itemgetter(0), reverse=True)]


def remove_older(connection: sqlite3.Connection, than: int) -> bool:
    """Some of those saved before a time; False: there are none."""
    query = "SELECT id FROM response WHERE saved_at < ? ORDER BY saved_at LIMIT ?"
    with transaction(connection):
        found = connection.execute(query, (than, _STEP)).fetchall()
        for (response_id,) in found:
            remove(connection, response_id)
    return bool(found)


def remove_oldest(connection: sqlite3.Connection, down_to: int) -> bool:
    """The oldest one; False: the rest is small enough."""
    query = "SELECT id FROM response ORDER BY saved_at, rowid LIMIT 1"
    with transaction(connection):
        # Asked for within the transaction: another process may be making room, too.
        if live_bytes(connection) <= down_to:
            return False
        row = connection.execute(query).fetchone()
        return row is not None and remove(connection, row[0])


def live_bytes(connection: sqlite3.Connection) -> int:
    names = ("page_size", "page_count", "freelist_count")
    size, pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int(size * (pages - free))


def transaction(connection: sqlite3.Connection) -> AbstractContextManager[None]:
    return _between(connection, "BEGIN IMMEDIATE")


def _snapshot(connection: sqlite3.Connection) -> AbstractContextManager[None]:
    return _between(connection, "BEGIN")


@contextmanager
def _between(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # The error that is on its way says more than one of the rollback.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
