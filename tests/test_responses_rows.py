import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qwen_mitm.responses_file import ResponsesFile
from qwen_mitm.responses_rows import (
    ResponseRows,
    live_bytes,
    read_item,
    read_items,
    read_response,
    remove,
    remove_older,
    remove_oldest,
    transaction,
)
from qwen_mitm.stored_response import StoredResponse
from tests.stored_turns import response, says, turn, user


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened, _ = ResponsesFile(tmp_path / "r.sqlite").connect()
    with closing(opened):
        yield opened


def write(connection: sqlite3.Connection, stored: StoredResponse, at: int = 0) -> int:
    with transaction(connection):
        return ResponseRows(stored).write(connection, at)


def nodes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM node").fetchone()[0])


def test_only_what_is_new_is_written(connection: sqlite3.Connection) -> None:
    history = [user(f"{number} " + "x" * 1000) for number in range(50)]
    assert write(connection, turn(response("resp_1"), *history)) > 50_000
    assert write(connection, turn(response("resp_2"), *history, user("new"))) < 1000


def test_what_responses_repeat_of_their_requests_is_written_once(
    connection: sqlite3.Connection,
) -> None:
    write(connection, turn(response("resp_1"), user("a")))
    before = nodes(connection)
    write(connection, turn(response("resp_2"), user("b")))
    assert nodes(connection) == before + 1


def test_a_response_that_is_written_again_replaces_the_first(
    connection: sqlite3.Connection,
) -> None:
    write(connection, turn(response("resp_1", says("a", "msg_a")), user("hi")))
    write(connection, turn(response("resp_1", says("b", "msg_b")), user("hi")))
    found = read_response(connection, "resp_1", since=0)
    assert found == response("resp_1", says("b", "msg_b"))
    assert read_item(connection, "msg_a") is None


def test_items_are_read_up_to_the_input_or_the_output(connection: sqlite3.Connection) -> None:
    write(connection, turn(response("resp_1", says("b", "msg_b")), user("hi")))
    assert len(read_items(connection, "resp_1", 0, "input") or ()) == 1
    assert len(read_items(connection, "resp_1", 0, "head") or ()) == 2


def test_what_was_saved_before_is_not_found(connection: sqlite3.Connection) -> None:
    write(connection, turn(response("resp_1"), user("hi")), at=5)
    assert read_response(connection, "resp_1", since=5) is not None
    assert read_response(connection, "resp_1", since=6) is None
    assert read_items(connection, "resp_1", 6, "head") is None


def test_a_branch_goes_and_the_trunk_stays(connection: sqlite3.Connection) -> None:
    trunk = [user("a"), user("b")]
    write(connection, turn(response("resp_1"), *trunk))
    before = nodes(connection)
    write(connection, turn(response("resp_2"), *trunk, user("c"), user("d")))
    write(connection, turn(response("resp_3"), *trunk, user("e")))
    for branch in ("resp_2", "resp_3"):
        assert remove(connection, branch)
    assert nodes(connection) == before
    assert len(read_items(connection, "resp_1", 0, "head") or ()) == 2


def test_the_trunk_goes_with_its_last_branch(connection: sqlite3.Connection) -> None:
    write(connection, turn(response("resp_1"), user("a")))
    write(connection, turn(response("resp_2"), user("a"), user("b")))
    remove(connection, "resp_1")
    assert len(read_items(connection, "resp_2", 0, "head") or ()) == 2
    remove(connection, "resp_2")
    assert nodes(connection) == 0


def test_those_of_an_age_go_a_few_at_a_time(connection: sqlite3.Connection) -> None:
    for at in range(20):
        write(connection, turn(response(f"resp_{at}"), user(str(at))), at)
    steps = 0
    while remove_older(connection, than=19):
        steps += 1
    assert 1 < steps < 20
    assert read_response(connection, "resp_18", since=0) is None
    assert read_response(connection, "resp_19", since=0) is not None


def test_the_oldest_go_first_until_the_rest_is_small_enough(
    connection: sqlite3.Connection,
) -> None:
    for at in (3, 1, 2):
        write(connection, turn(response(f"resp_{at}"), user(f"{at}" + "x" * 100_000)), at)
    limit = live_bytes(connection) - 150_000
    assert remove_oldest(connection, limit)
    assert remove_oldest(connection, limit)
    assert not remove_oldest(connection, limit)
    assert read_response(connection, "resp_2", since=0) is None
    assert read_response(connection, "resp_3", since=0) is not None


def test_an_empty_file_is_as_small_as_it_gets(connection: sqlite3.Connection) -> None:
    assert not remove_oldest(connection, 0)


def test_a_transaction_that_fails_leaves_nothing(connection: sqlite3.Connection) -> None:
    def fail() -> None:
        with transaction(connection):
            ResponseRows(turn(response("resp_1"), user("a"))).write(connection, 0)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert read_response(connection, "resp_1", since=0) is None
    write(connection, turn(response("resp_2"), user("a")))


def test_removed_responses_do_not_count(connection: sqlite3.Connection) -> None:
    empty = live_bytes(connection)
    write(connection, turn(response("resp_1"), user("x" * 500_000)))
    assert live_bytes(connection) > empty + 450_000
    remove(connection, "resp_1")
    assert live_bytes(connection) < empty + 50_000
