import json
import os
from pathlib import Path

import pytest

from qwen_mitm.accounts.store import AccountStore, accounts_path, embedded_accounts
from qwen_mitm.errors import NoUsableAccount
from qwen_mitm.settings import Settings


def write(path: Path, *keys: str) -> None:
    accounts = [{"name": f"n{i}", "apiKey": key} for i, key in enumerate(keys)]
    path.write_text(json.dumps({"version": 1, "accounts": accounts}))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    write(path, "fake-1")
    store = AccountStore(path)
    assert len(store.accounts()) == 1

    write(path, "fake-1", "fake-2")

    assert len(store.accounts()) == 2


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoUsableAccount, match="QWEN_API_KEY"):
        AccountStore(tmp_path / "none.json").accounts()


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2, "accounts": []}', ""])
def test_a_corrupt_file_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(text)
    store = AccountStore(path)

    for _ in range(2):
        with pytest.raises(NoUsableAccount, match="accounts.json"):  # noqa: RUF043
            store.accounts()

    assert path.read_text() == text


def test_an_error_in_the_file_does_not_show_a_token(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text('{"version": 1, "accounts": [{"apiKey": "fake-secret", "expires": "soon"}]}')
    with pytest.raises(NoUsableAccount) as caught:
        AccountStore(path).accounts()
    assert "accounts.0.expires" in caught.value.message
    assert "fake-secret" not in caught.value.message


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_file_that_others_can_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    write(path, "fake-1")
    path.chmod(0o644)
    assert AccountStore(path).too_open()
    path.chmod(0o600)
    assert not AccountStore(path).too_open()


def test_the_file_is_the_plugins_unless_the_user_names_another(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert accounts_path(Settings(), env) == tmp_path / "opencode" / "qwen-auth-accounts.json"
    assert accounts_path(Settings(accounts_file="/elsewhere.json"), env) == Path("/elsewhere.json")


def test_a_key_in_the_environment_needs_its_base_url() -> None:
    settings = Settings(base_url="http://127.0.0.1:18080/v1")
    assert embedded_accounts({"QWEN_API_KEY": "fake"}, settings) == ()

    env = {"QWEN_API_KEY": "fake", "QWEN_API_BASE_URL": "http://127.0.0.1:18080/v1"}
    (account,) = embedded_accounts(env, settings)

    assert account.endpoint("https://other.test") == "http://127.0.0.1:18080/v1"
