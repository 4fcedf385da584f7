import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from qwen_mitm.web_chat.credentials import CredentialStore, read_credentials
from qwen_mitm.web_chat.database import Database
from tests.web_chat.keys import COOKIES, TOKEN, credentials, jwt

ENVIRONMENT = {"QWEN_TOKEN": TOKEN, "QWEN_COOKIES": COOKIES}


class Safe:
    """A store at a time of the test's choosing."""

    def __init__(self, path: Path) -> None:
        self.now = 1_790_000_000.0
        self.database = Database(path)
        self.store = CredentialStore(self.database, lambda: self.now)

    def token(self, credential_id: int | None = None) -> str | None:
        found = self.store.get(credential_id)
        return None if found is None else found.token.get_secret_value()


@pytest.fixture
def safe(tmp_path: Path) -> Safe:
    return Safe(tmp_path / "web.sqlite")


@pytest.fixture(autouse=True)
def nothing_secret_is_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    out, err = capfd.readouterr()
    assert "fake-" not in out + err


def test_the_table_is_that_of_the_specification(safe: Safe) -> None:
    safe.store.set(credentials())
    with safe.database.transaction() as rows:
        columns = rows.execute("PRAGMA table_info(qwen_credentials)").fetchall()
        indexes = rows.execute("PRAGMA index_list(qwen_credentials)").fetchall()
        indexed = rows.execute(f"PRAGMA index_info({indexes[0][1]})").fetchall()
    assert [(name, kind, required) for _, name, kind, required, _, _ in columns] == [
        ("id", "INTEGER", 0),
        ("token", "TEXT", 1),
        ("cookies", "TEXT", 1),
        ("expires_at", "INTEGER", 0),
        ("created_at", "INTEGER", 1),
        ("updated_at", "INTEGER", 1),
    ]
    assert [column for _, _, column in indexed] == ["expires_at"]


def test_there_are_none_before_any_were_set_and_no_file_is_made(safe: Safe) -> None:
    assert safe.store.get() is None
    assert not safe.store.is_valid()
    assert safe.store.headers() is None
    assert not safe.store.delete()
    assert not safe.database.exists


def test_what_was_set_last_is_current(safe: Safe) -> None:
    first = safe.store.set(credentials("1"))
    safe.now += 1
    safe.store.set(credentials("2"))
    assert safe.token() == "fake-umidtoken-2"
    assert safe.token(first.id) == "fake-umidtoken-1"


def test_what_is_over_is_not_current(safe: Safe) -> None:
    safe.store.set(credentials("old"))
    safe.now += 1
    ending = safe.store.set(credentials("new", safe.now + 60))
    assert safe.token() == "fake-umidtoken-new"
    safe.now += 60
    assert safe.token() == "fake-umidtoken-old"
    assert not safe.store.is_valid(ending.id)


def test_an_update_keeps_the_id_and_the_beginning(safe: Safe) -> None:
    stored = safe.store.set(credentials("1"))
    safe.now += 5
    updated = safe.store.update(stored.id, credentials("2"))
    assert updated is not None
    assert (updated.id, updated.created_at) == (stored.id, stored.created_at)
    assert updated.updated_at == stored.updated_at + 5
    assert safe.token(stored.id) == "fake-umidtoken-2"
    assert safe.store.update(99, credentials("3")) is None


def test_what_was_deleted_is_gone_from_the_disk_too(safe: Safe) -> None:
    stored = safe.store.set(credentials("gone"))
    assert safe.store.delete(stored.id)
    assert safe.store.get() is None
    left = b"".join(path.read_bytes() for path in safe.database.path.parent.iterdir())
    assert b"fake-umidtoken-gone" not in left


def test_the_headers_are_the_one_place_where_they_can_be_read(safe: Safe) -> None:
    stored = safe.store.set(credentials("1", safe.now + 60))
    headers = stored.headers()
    assert headers["bx-umidtoken"] == "fake-umidtoken-1"
    assert headers["cookie"].startswith("acw_tc=fake-acw-1; token=")
    assert headers["authorization"] == f"Bearer {jwt(safe.now + 60)}"
    assert "fake-" not in f"{stored!r} {stored} {stored.model_dump()} {stored.model_dump_json()}"


def test_a_guest_has_no_bearer() -> None:
    assert "authorization" not in credentials().headers()


def test_a_login_among_the_cookies_tells_when_it_is_over() -> None:
    assert credentials("1", 1_800_000_000).expires_at == 1_800_000_000
    assert credentials("1").expires_at is None
    broken = read_credentials(TOKEN, "token=aaa.bbb.ccc")
    assert broken.expires_at is None


@pytest.mark.parametrize(
    ("token", "cookies"),
    [
        ("", COOKIES),
        (TOKEN, "  "),
        (TOKEN, "no-cookie"),
        (f"{TOKEN}\r\nx-evil: 1", COOKIES),
        (TOKEN, f"{COOKIES}\nx-evil: 1"),
        ("fake-tökén", COOKIES),
    ],
)
def test_what_would_not_fit_a_header_is_refused_without_being_quoted(
    token: str, cookies: str
) -> None:
    with pytest.raises((ValidationError, ValueError)) as caught:
        read_credentials(token, cookies)
    assert "fake-" not in str(caught.value)


def test_a_line_copied_from_the_browser_is_understood() -> None:
    read = read_credentials(f"bx-umidtoken: {TOKEN}\n", f"Cookie: {COOKIES}\n")
    assert read.headers() == {"bx-umidtoken": TOKEN, "cookie": COOKIES}


def test_the_environment_is_kept_when_it_has_both(safe: Safe) -> None:
    assert safe.store.adopt({"QWEN_TOKEN": TOKEN}) is None
    assert safe.store.adopt({}) is None
    assert not safe.database.exists
    assert safe.store.adopt(ENVIRONMENT) is not None
    assert safe.token() == TOKEN


def test_newer_values_of_the_environment_win_over_those_that_are_still_good(safe: Safe) -> None:
    pinned = safe.store.set(credentials("login"))
    safe.store.adopt(ENVIRONMENT)
    assert safe.token() == TOKEN
    assert safe.token(pinned.id) == TOKEN
    safe.store.adopt({**ENVIRONMENT, "QWEN_COOKIES": "acw_tc=fake-newer"})
    found = safe.store.get()
    assert found is not None
    assert found.headers()["cookie"] == "acw_tc=fake-newer"


def test_the_environment_of_old_does_not_undo_a_login(safe: Safe) -> None:
    stored = safe.store.adopt(ENVIRONMENT)
    assert stored is not None
    safe.store.update(stored.id, credentials("login"))
    assert safe.store.adopt(ENVIRONMENT) is None
    assert safe.token() == "fake-umidtoken-login"


def test_the_environment_touches_none_of_several_logins(safe: Safe) -> None:
    ids = [safe.store.set(credentials(name)).id for name in ("1", "2")]
    safe.now += 1
    safe.store.adopt(ENVIRONMENT)
    assert [safe.token(one) for one in ids] == ["fake-umidtoken-1", "fake-umidtoken-2"]
    assert safe.token() == TOKEN


def test_what_the_site_quotes_is_taken_out() -> None:
    text = credentials().redact("refused fake-umidtoken-0001 with acw_tc=fake-acw-0001; bye")
    assert "fake-" not in text
    assert text.startswith("refused")
    assert text.endswith("; bye")


def test_processes_that_write_at_once_lose_nothing(safe: Safe) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from qwen_mitm.web_chat.database import Database\n"
        "from qwen_mitm.web_chat.credentials import CredentialStore, read_credentials\n"
        "store = CredentialStore(Database(Path(sys.argv[1])), lambda: 1.0)\n"
        "for n in range(10): store.set(read_credentials(f'fake-{sys.argv[2]}-{n}', 'a=fake'))\n"
    )
    command = [sys.executable, "-c", program, str(safe.database.path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    with sqlite3.connect(safe.database.path) as connection:
        tokens = connection.execute("SELECT DISTINCT token FROM qwen_credentials").fetchall()
    connection.close()
    assert len(tokens) == 30


@pytest.mark.parametrize("token", ["acw_tc=fake; x-ap=fake", "a b", "a,b"])
def test_cookies_in_the_place_of_the_token_are_noticed(token: str) -> None:
    with pytest.raises(ValueError, match="one word"):
        read_credentials(token, "fake-umidtoken==")
