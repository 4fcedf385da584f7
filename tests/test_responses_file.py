import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qwen_mitm.responses_file import (
    FILE_NAME,
    OpenFile,
    ResponsesFile,
    is_damaged,
    responses_path,
)


def test_the_chosen_file_wins() -> None:
    assert responses_path({"XDG_STATE_HOME": "/state"}, "/other/file") == Path("/other/file")


@pytest.mark.skipif(sys.platform != "linux", reason="other folders elsewhere")
def test_the_file_is_in_a_folder_of_our_own() -> None:
    assert responses_path({"XDG_STATE_HOME": "/state"}) == Path("/state/qwen-mitm") / FILE_NAME
    own = Path.home() / ".local" / "state" / "qwen-mitm"
    assert responses_path({}) == own / FILE_NAME


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    file = ResponsesFile(tmp_path / "new" / "r.sqlite")
    connection, inode = file.connect()
    connection.close()
    assert inode == file.path.stat().st_ino
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_writers_do_not_stop_readers(tmp_path: Path) -> None:
    connection, _ = ResponsesFile(tmp_path / "r.sqlite").connect()
    with closing(connection):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_was_replaced_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = ResponsesFile(tmp_path / "r.sqlite")
    connection, inode = file.connect()
    connection.close()
    file.set_aside(inode + 1)
    assert file.inode() == inode
    file.set_aside(inode)
    assert file.inode() is None


def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    file = ResponsesFile(tmp_path / "r.sqlite")
    opened = OpenFile(file)
    opened.use(lambda connection: connection.execute("SELECT count(*) FROM response"))
    file.path.unlink()
    assert opened.use(lambda c: c.execute("SELECT count(*) FROM response").fetchone()) == (0,)
    opened.close()
    assert file.path.exists()


def test_a_busy_or_full_file_is_not_damaged(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "r.sqlite", timeout=0)) as one,
        closing(sqlite3.connect(tmp_path / "r.sqlite", timeout=0)) as other,
    ):
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as busy:
            other.execute("BEGIN IMMEDIATE")
        assert not is_damaged(busy.value)
    assert not is_damaged(sqlite3.ProgrammingError("Cannot operate on a closed database."))
