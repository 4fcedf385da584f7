from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen_mitm.web_chat.database import Database
from qwen_mitm.web_chat.sessions import CLAIM_S, CLEANUP_S, TIMEOUT_S, Session, Sessions


class Desk:
    """Sessions at a time of the test's choosing."""

    def __init__(self, path: Path) -> None:
        self.now = 1_790_000_000.0
        self.database = Database(path)
        self.sessions = Sessions(self.database, lambda: self.now)

    def first_turn(self, chat_id: str = "chat", prefix: str = "k1", parent: str = "p1") -> None:
        self.sessions.open("work", chat_id)
        self.sessions.settle("work", chat_id, prefix, parent)

    def chats(self) -> list[tuple[str, int]]:
        with self.database.transaction() as rows:
            return rows.execute("SELECT chat_id, message_count FROM sessions").fetchall()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "web.sqlite")


def test_a_conversation_goes_on_where_it_ended(desk: Desk) -> None:
    desk.first_turn()
    assert desk.sessions.claim("work", "k1") == Session("chat", "p1")
    desk.sessions.settle("work", "chat", "k2", "p2")
    assert desk.sessions.claim("work", "k2") == Session("chat", "p2")
    assert desk.chats() == [("chat", 2)]


def test_a_fork_goes_on_from_where_it_branches_off(desk: Desk) -> None:
    desk.first_turn()
    desk.sessions.claim("work", "k1")
    desk.sessions.settle("work", "chat", "k2", "p2")
    assert desk.sessions.claim("work", "k1") == Session("chat", "p1")


def test_an_unknown_prefix_and_another_account_have_no_chat(desk: Desk) -> None:
    desk.first_turn()
    assert desk.sessions.claim("work", "other") is None
    assert desk.sessions.claim("home", "k1") is None


def test_one_turn_at_a_time_has_a_chat(desk: Desk) -> None:
    desk.first_turn()
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: desk.sessions.claim("work", "k1"), range(20)))
    assert [claim for claim in claims if claim] == [Session("chat", "p1")]


def test_a_turn_that_failed_leaves_the_chain_as_it_was(desk: Desk) -> None:
    desk.first_turn()
    desk.sessions.claim("work", "k1")
    desk.sessions.release("chat")
    assert desk.sessions.claim("work", "k1") == Session("chat", "p1")


def test_a_first_turn_that_failed_leaves_nothing(desk: Desk) -> None:
    desk.sessions.open("work", "chat")
    desk.sessions.release("chat")
    assert desk.chats() == []


def test_the_claim_of_a_process_that_died_is_over_by_itself(desk: Desk) -> None:
    desk.first_turn()
    desk.sessions.claim("work", "k1")
    desk.now += CLAIM_S - 1
    assert desk.sessions.claim("work", "k1") is None
    desk.now += 1
    assert desk.sessions.claim("work", "k1") is not None


def test_thirty_minutes_begin_anew_with_each_use(desk: Desk) -> None:
    desk.first_turn()
    for _ in range(3):
        desk.now += TIMEOUT_S - 1
        assert desk.sessions.claim("work", "k1") is not None
        desk.sessions.release("chat")
    desk.now += TIMEOUT_S
    assert desk.sessions.claim("work", "k1") is None


def test_what_is_over_is_cleared_away_by_the_way(desk: Desk) -> None:
    desk.first_turn()
    desk.now += TIMEOUT_S + CLEANUP_S
    desk.first_turn("new", "k9", "p9")
    assert desk.chats() == [("new", 1)]
    with desk.database.transaction() as rows:
        assert rows.execute("SELECT chat_id FROM turns").fetchall() == [("new",)]


def test_a_chat_that_is_in_use_is_not_cleared_away(desk: Desk) -> None:
    desk.first_turn()
    desk.sessions.claim("work", "k1")
    with desk.database.transaction() as rows:
        rows.execute("UPDATE sessions SET expires_at = 0")
    assert desk.sessions.clean_up() == 0
    desk.sessions.release("chat")
    assert desk.sessions.clean_up() == 1


def test_a_chat_that_the_site_forgot_is_forgotten_with_all_its_turns(desk: Desk) -> None:
    desk.first_turn()
    desk.sessions.forget("chat")
    assert desk.sessions.claim("work", "k1") is None
    desk.sessions.settle("work", "chat", "k2", "p2")
    assert desk.sessions.claim("work", "k2") is None


def test_processes_share_the_sessions(desk: Desk) -> None:
    desk.first_turn()
    other = Sessions(Database(desk.database.path), lambda: desk.now)
    assert other.claim("work", "k1") == Session("chat", "p1")
    assert desk.sessions.claim("work", "k1") is None
