import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen_mitm.web_chat.database import Database, DatabaseFault, database_path


def count(database: Database) -> int:
    with database.transaction() as rows:
        number: int = rows.execute("SELECT count(*) FROM environment").fetchone()[0]
        return number


def test_the_file_is_in_the_folder_for_state() -> None:
    path = database_path({"XDG_STATE_HOME": "/state", "LOCALAPPDATA": "/state"})
    assert path.name == "qwen-mitm-web-chat.sqlite"
    assert path.parent.name == "qwen-mitm"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_file_and_those_beside_it_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database(tmp_path / "state" / "web.sqlite")
        with database.transaction() as rows:
            rows.execute("INSERT INTO environment VALUES ('x')")
            files = [path for path in database.path.parent.iterdir() if path.is_file()]
            modes = {stat.S_IMODE(path.stat().st_mode) for path in files}
        assert len(files) > 1
        assert modes == {0o600}
        assert stat.S_IMODE(database.path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_transaction_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")

    def insert_and_fail() -> None:
        with database.transaction() as rows:
            rows.execute("INSERT INTO environment VALUES ('x')")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        insert_and_fail()
    assert count(database) == 0


def test_threads_take_turns(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")

    def add_one(_: int) -> None:
        with database.transaction() as rows:
            number = rows.execute("SELECT count(*) FROM environment").fetchone()[0]
            rows.execute("INSERT INTO environment VALUES (?)", (str(number),))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add_one, range(40)))

    with database.transaction() as rows:
        distinct = rows.execute("SELECT count(DISTINCT digest) FROM environment").fetchone()[0]
    assert distinct == 40


def test_a_damaged_file_is_named_and_nothing_of_it_is_quoted(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")
    database.path.write_bytes(b"fake-umidtoken-0001" * 300)
    with pytest.raises(DatabaseFault) as caught:
        count(database)
    assert str(database.path) in caught.value.message
    assert "fake-umidtoken" not in caught.value.message


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")
    count(database)
    with sqlite3.connect(database.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseFault, match="newer program"):
        count(database)


def test_what_is_to_last_is_in_the_file_itself_although_another_has_it_open(
    tmp_path: Path,
) -> None:
    database, proxy = Database(tmp_path / "web.sqlite"), Database(tmp_path / "web.sqlite")
    proxy.keep_open()
    try:
        for value in ("fake-old", "fake-new"):
            with database.transaction(lasting=True) as rows:
                rows.execute("DELETE FROM environment")
                rows.execute("INSERT INTO environment VALUES (?)", (value,))
        assert b"fake-new" in database.path.read_bytes()
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"fake-old" not in files
    finally:
        proxy.close()


def test_a_file_that_is_kept_open_may_be_replaced(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")
    database.keep_open()
    try:
        for path in tmp_path.iterdir():
            path.unlink()
        assert count(database) == 0
        assert database.path.exists()
    finally:
        database.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    database = Database(tmp_path / "web.sqlite")
    assert count(database) == 0
    database.path.chmod(0o644)
    assert count(database) == 0
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600
