import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.files import AccountFileError
from qwen_mitm.accounts.model import Account, AccountFile
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


def change(name: str, **fields: object) -> Callable[[AccountFile], AccountFile]:
    return lambda file: file.change(name, lambda account: account.model_copy(update=fields))


def add(account: Account) -> Callable[[AccountFile], AccountFile]:
    return lambda file: file.add(account)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.json"


def test_a_change_is_on_disk_and_seen_by_another_store(path: Path) -> None:
    write(path, "fake-1", "fake-2")
    other = AccountStore(path)
    other.accounts()

    file = AccountStore(path).update(change("n1", disabled=True))

    assert [a.disabled for a in file.accounts] == [False, True]
    assert [a.disabled for a in other.accounts()] == [False, True]


def test_changes_that_follow_at_once_with_the_same_size_are_all_seen(path: Path) -> None:
    write(path, "fake-1")
    writer, reader = AccountStore(path), AccountStore(path)
    for moment in range(1000, 1050):
        writer.update(change("n0", last_used=moment))
        assert reader.accounts()[0].last_used == moment


def test_unknown_keys_of_the_file_and_of_accounts_survive(path: Path) -> None:
    document = {
        "version": 1,
        "accounts": [
            {"refreshToken": "fake", "health": {"successCount": 3}, "note": None, "addedAt": 5}
        ],
        "activeIndex": 0,
        "theirs": [1, 2.5, "ü"],
    }
    path.write_text(json.dumps(document))

    AccountStore(path).update(change("account-1", disabled=True))

    written = json.loads(path.read_text())
    assert written["theirs"] == [1, 2.5, "ü"]
    (entry,) = written["accounts"]
    assert entry["health"] == {"successCount": 3}
    assert entry["note"] is None
    assert entry["disabled"] is True


def test_a_missing_file_is_made_with_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "accounts.json"
    account = Account(name="a", api_key=SecretStr("fake-key"), base_url="https://plan.test/v1")

    AccountStore(path).update(add(account))

    (read_again,) = AccountStore(path).accounts()
    assert read_again.api_key == SecretStr("fake-key")
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_everything_that_is_left_beside_the_file_is_for_its_owner_alone(path: Path) -> None:
    write(path, "fake-1")
    path.chmod(0o644)
    store = AccountStore(path)

    store.update(change("n0", disabled=True))
    with store.refresh_lock("n0"):
        pass

    left = [p for p in path.parent.rglob("*") if p.is_file()]
    assert path in left
    assert all(p.stat().st_mode & 0o077 == 0 for p in left)
    assert all(p == path or p.stat().st_size == 0 for p in left)


def test_a_change_that_changes_nothing_leaves_the_file_alone(path: Path) -> None:
    write(path, "fake-1")
    store = AccountStore(path)
    store.update(change("n0", disabled=True))
    before = path.stat()

    store.update(change("n0", disabled=True))

    assert path.stat() == before


def test_a_change_that_fails_leaves_the_file_and_no_lock(path: Path) -> None:
    write(path, "fake-1")
    before = path.read_bytes()

    with pytest.raises(ValueError, match="already an account"):
        AccountStore(path).update(lambda file: file.add(file.accounts[0]))

    assert path.read_bytes() == before
    assert not (path.parent / "accounts.json.lock").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        ('{"accounts": []}', "version: Field required"),
        ('{"version": 2, "accounts": []}', "update qwen-mitm"),
        ('{"version": 1, "accounts": [{"name": "no secret"}]}', "needs apiKey"),
    ],
)
def test_a_file_that_cannot_be_read_is_never_overwritten(path: Path, text: str, words: str) -> None:
    path.write_text(text)

    with pytest.raises(NoUsableAccount, match=words):
        AccountStore(path).update(lambda _: AccountFile(version=1))

    assert path.read_text() == text
    assert not list(path.parent.glob("*.tmp-*"))


def test_what_could_not_be_read_again_is_not_written(path: Path) -> None:
    write(path, "fake-1")
    before = path.read_bytes()

    with pytest.raises(NoUsableAccount, match="baseUrl"):
        AccountStore(path).update(change("n0", base_url="not a URL"))

    assert path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_stays_a_link_to_the_file_that_is_written(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "real.json"
    target.parent.mkdir()
    write(target, "fake-1")
    link = tmp_path / "accounts.json"
    link.symlink_to(target)

    store = AccountStore(link)
    store.update(change("n0", disabled=True))

    assert link.is_symlink()
    assert json.loads(target.read_text())["accounts"][0]["disabled"] is True
    assert store.accounts()[0].disabled
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["accounts.json"]


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that may not be written, also when root runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "accounts.json", "fake-1")
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_folder_that_may_not_be_written_is_a_clear_error(locked_folder: Path) -> None:
    path = locked_folder / "accounts.json"
    store = AccountStore(path)

    with pytest.raises(AccountFileError, match="Permission denied"):
        store.update(change("n0", disabled=True))
    with (
        pytest.raises(AccountFileError, match="Permission denied"),
        store.refresh_lock("n0"),
    ):
        pass

    assert not store.accounts()[0].disabled
    assert os.listdir(locked_folder) == ["accounts.json"]


def test_a_path_where_nothing_can_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccountFileError, match="cannot be made"):
        AccountStore(tmp_path / "file" / "accounts.json").update(lambda file: file)


def test_cached_accounts_are_those_last_seen_even_without_the_file(path: Path) -> None:
    write(path, "fake-1")
    store = AccountStore(path)
    assert store.cached() == ()
    store.accounts()
    path.unlink()
    assert [a.name for a in store.cached()] == ["n0"]

    write(path, "fake-1")
    store.update(change("n0", disabled=True))
    path.unlink()
    assert store.cached()[0].disabled


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    write(path, "fake-1")
    os.utime(path, (1, 1))
    store = AccountStore(path)
    assert store.accounts() is store.accounts()


async def test_a_lock_for_refreshing_keeps_out_others_of_its_account_only(path: Path) -> None:
    store = AccountStore(path)
    held = store.refresh_lock("a")
    await asyncio.to_thread(held.__enter__)
    waiting = asyncio.create_task(  # noqa: TID251 - awaited below
        asyncio.to_thread(AccountStore(path).refresh_lock("a").__enter__)
    )
    with store.refresh_lock("b"):
        store.update(add(Account(name="a", api_key=SecretStr("fake"))))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done

    await asyncio.to_thread(held.__exit__, None, None, None)

    await asyncio.wait_for(waiting, timeout=5)


def plugin_saves(path: Path, stale: list[dict[str, Any]] | None = None) -> None:
    """How it merges by ``refreshToken`` and drops entries without one (qwen.md §1.5)."""
    on_disk = json.loads(path.read_text())["accounts"]
    merged: dict[str, dict[str, Any]] = {}
    for entry in [*on_disk, *(on_disk if stale is None else stale)]:
        token = entry.get("refreshToken")
        merged[token] = {**merged.get(token, {}), **entry}
    accounts = [entry for token, entry in merged.items() if token]
    path.write_text(json.dumps({"version": 1, "accounts": accounts, "activeIndex": 0}))


def test_api_keys_survive_when_the_plugin_saves_the_file(path: Path) -> None:
    keys = [Account(name=n, api_key=SecretStr("fake-key"), provider="generic") for n in "abc"]
    store = AccountStore(path)
    for key in keys:
        store.update(add(key))
    now = 4_000_000_000_000
    document = json.loads(path.read_text())
    assert all(entry["rateLimitResetAt"] > now for entry in document["accounts"])

    plugin_saves(path)

    accounts = store.accounts()
    assert [a.name for a in accounts] == ["a", "b", "c"]
    assert all(a.api_key == SecretStr("fake-key") and a.is_usable("m", now) for a in accounts)


def test_a_refresh_of_ours_outlives_the_plugins_old_copy(path: Path) -> None:
    old = {"refreshToken": "fake-1", "accessToken": "fake-old", "addedAt": 5, "lastUsed": 5}
    path.write_text(json.dumps({"version": 1, "accounts": [old], "activeIndex": 0}))
    store = AccountStore(path)
    store.update(change("account-1", refresh_token=SecretStr("fake-2")))

    plugin_saves(path, stale=[{**old, "addedAt": 9}])

    assert [a.refresh_token for a in store.accounts()] == [SecretStr("fake-2")]
    store.update(change("account-1", disabled=True))
    assert "fake-1" not in path.read_text()
