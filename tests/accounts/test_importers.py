import json
import os
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.importers import LOCK_STALE_AFTER_S, ImportFailed, found, read_login

QWEN_CODE = {
    "access_token": "fake-access",
    "refresh_token": "fake-refresh",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expiry_date": 1767225600000,
    "id_token": "fake-id",
}
CLI_PROXY = {
    "access_token": "fake-access",
    "refresh_token": "fake-refresh",
    "last_refresh": "2026-01-01T00:00:00+08:00",
    "resource_url": "portal.qwen.ai",
    "email": "someone@example.test",
    "type": "qwen",
    "expired": "2026-01-01T06:00:00+08:00",
}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def qwen_code(tmp_path: Path) -> Path:
    return write(tmp_path / ".qwen" / "oauth_creds.json", QWEN_CODE)


def test_qwen_codes_login_becomes_an_account(qwen_code: Path) -> None:
    account = read_login(qwen_code, now=5)

    assert account.name == "qwen-code"
    assert account.kind == "oauth"
    assert account.refresh_token == SecretStr("fake-refresh")
    assert account.access_token == SecretStr("fake-access")
    assert account.expires == 1767225600000
    assert account.resource_url == "portal.qwen.ai"
    assert account.added_at == 5


def test_one_of_several_logins_is_named_after_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / ".qwen" / "oauth_creds_work.json", QWEN_CODE)
    assert read_login(path, now=0).name == "work"


@pytest.mark.parametrize(
    ("expired", "expires"),
    [
        ("2026-01-01T06:00:00+08:00", 1767218400000),
        ("2025-12-31T22:00:00Z", 1767218400000),
        ("2025-12-31T22:00:00.123456789Z", 1767218400123),
        ("2025-12-31T22:00:00", 1767218400000),
    ],
)
def test_cli_proxys_login_becomes_an_account(tmp_path: Path, expired: str, expires: int) -> None:
    path = write(tmp_path / "qwen-x.json", {**CLI_PROXY, "expired": expired})
    account = read_login(path, now=0)
    assert account.name == "someone@example.test"
    assert account.expires == expires


def test_a_login_without_an_address_is_named_after_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "qwen-me@example.test.json", {**CLI_PROXY, "email": ""})
    assert read_login(path, now=0).name == "me@example.test"


def test_the_logins_of_a_home_folder_are_found(tmp_path: Path, qwen_code: Path) -> None:
    work = write(tmp_path / ".qwen" / "oauth_creds_work.json", QWEN_CODE)
    proxy = write(tmp_path / ".cli-proxy-api" / "qwen-x.json", CLI_PROXY)
    write(tmp_path / ".qwen" / "settings.json", {})
    assert found(tmp_path) == [qwen_code, work, proxy]
    assert found(tmp_path / "nobody") == []


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**QWEN_CODE, "refresh_token": None}, "refresh_token"),
        ({**QWEN_CODE, "refresh_token": ""}, "refresh_token: is empty"),
        ({**QWEN_CODE, "expiry_date": "fake-access"}, "expiry_date"),
        ({**CLI_PROXY, "type": "gemini"}, "type"),
        ({**CLI_PROXY, "expired": "fake-access"}, "expired"),
        ([], "the whole file"),
    ],
)
def test_what_is_no_login_is_named_without_its_secrets(
    tmp_path: Path, document: object, words: str
) -> None:
    path = write(tmp_path / "login.json", document)
    with pytest.raises(ImportFailed, match=words) as caught:
        read_login(path, now=0)
    assert "login.json" in str(caught.value)
    assert "fake-access" not in str(caught.value)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="No such file"):
        read_login(tmp_path / "oauth_creds.json", now=0)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_left_as_it_was_and_no_lock_behind(qwen_code: Path) -> None:
    before = qwen_code.read_bytes()
    read_login(qwen_code, now=0)
    assert qwen_code.read_bytes() == before
    assert list(qwen_code.parent.iterdir()) == [qwen_code]


def test_a_refresh_of_qwen_code_is_waited_for(qwen_code: Path) -> None:
    lock = qwen_code.with_name("oauth_creds.lock")
    lock.write_text("somebody")

    def finish() -> None:
        write(qwen_code, {**QWEN_CODE, "refresh_token": "fake-newer"})
        lock.unlink()

    threading.Timer(0.05, finish).start()

    assert read_login(qwen_code, now=0).refresh_token == SecretStr("fake-newer")


def test_a_lock_that_is_kept_is_named_and_left(qwen_code: Path) -> None:
    lock = qwen_code.with_name("oauth_creds.lock")
    lock.write_text("somebody")
    with pytest.raises(ImportFailed, match="Close qwen-code"):
        read_login(qwen_code, now=0, lock_timeout_s=0)
    assert lock.read_text() == "somebody"


def test_a_stale_lock_is_taken_away(qwen_code: Path) -> None:
    lock = qwen_code.with_name("oauth_creds.lock")
    lock.write_text("somebody who died")
    long_ago = time.time() - LOCK_STALE_AFTER_S - 1
    os.utime(lock, (long_ago, long_ago))

    read_login(qwen_code, now=0, lock_timeout_s=1)

    assert list(qwen_code.parent.iterdir()) == [qwen_code]
