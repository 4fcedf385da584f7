import json
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from qwen_mitm.accounts.model import (
    PLACEHOLDER,
    Account,
    AccountFile,
    Cooldown,
    normalise_resource_url,
)

PLUGIN_FILE = {
    "version": 1,
    "accounts": [
        {
            "refreshToken": "fake-refresh",
            "accessToken": "fake-access",
            "expires": 1795166830375,
            "resourceUrl": "portal.qwen.ai",
            "addedAt": 0,
            "lastUsed": 0,
            "health": {"successCount": 3},
        }
    ],
    "activeIndex": 0,
}


def read(*accounts: dict[str, object]) -> tuple[Account, ...]:
    document = {"version": 1, "accounts": accounts}
    return AccountFile.model_validate_json(json.dumps(document)).named()


@pytest.mark.parametrize(
    ("resource_url", "base_url"),
    [
        ("portal.qwen.ai", "https://portal.qwen.ai/v1"),
        ("https://portal.qwen.ai/", "https://portal.qwen.ai/v1"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
        ("dashscope.test/compatible-mode", "https://dashscope.test/compatible-mode/v1"),
    ],
)
def test_a_resource_url_becomes_a_base_url(resource_url: str, base_url: str) -> None:
    assert normalise_resource_url(resource_url) == base_url


def test_the_plugins_own_file_is_read_as_it_is() -> None:
    (account,) = AccountFile.model_validate_json(json.dumps(PLUGIN_FILE)).named()

    assert account.credential is not None
    assert account.credential.get_secret_value() == "fake-access"
    assert account.endpoint("https://default.test/v1") == "https://portal.qwen.ai/v1"
    assert not account.is_api_key


def test_unknown_keys_are_kept() -> None:
    (account,) = AccountFile.model_validate_json(json.dumps(PLUGIN_FILE)).accounts
    assert account.model_dump(by_alias=True)["health"] == {"successCount": 3}


def test_an_api_key_goes_to_its_own_base_url() -> None:
    (account,) = read({"apiKey": "fake-key", "baseUrl": "https://plan.test/v1/", "name": "work"})
    assert account.is_api_key
    assert account.endpoint("https://default.test") == "https://plan.test/v1"


def test_accounts_without_a_name_get_one_of_their_own() -> None:
    names = [a.name for a in read({"apiKey": "a", "name": "account-2"}, {"apiKey": "b"})]
    assert len(set(names)) == 2


def test_no_secret_is_in_the_repr_of_an_account() -> None:
    (account,) = AccountFile.model_validate_json(json.dumps(PLUGIN_FILE)).accounts
    assert "fake-access" not in repr(account)
    assert "fake-refresh" not in repr(account)


@pytest.mark.parametrize(
    "account",
    [
        {},
        {"kind": "api_key", "refreshToken": "x"},
        {"apiKey": "x", "baseUrl": "ftp://a"},
        {"apiKey": "x", "provider": "nobody"},
        {"apiKey": "x", "baseUrl": "https://a.test:99999/v1"},
        {"apiKey": "fake\r\nx-evil: 1"},
        {"apiKey": "fake key"},
        {"accessToken": "fake-ключ"},
    ],
)
def test_an_account_that_cannot_be_used_is_refused(account: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(account)


def oauth(name: str, token: str = "fake-refresh", **more: Any) -> Account:
    return Account(name=name, refresh_token=SecretStr(token), **more)


def file_of(*accounts: Account, active_index: int = 0) -> AccountFile:
    return AccountFile(version=1, accounts=accounts, active_index=active_index)


def test_a_name_that_somebody_chose_is_not_taken_by_an_earlier_double() -> None:
    names = [a.name for a in file_of(oauth("a"), oauth("a", "other"), oauth("a-2")).named()]
    assert names[0] == "a"
    assert len(set(names)) == 3


def test_unknown_keys_are_not_in_the_repr_because_they_may_be_secret() -> None:
    (account,) = read({"refreshToken": "fake-refresh", "idToken": "fake-id-token"})
    assert "idToken" in repr(account)
    assert "fake-id-token" not in repr(account)


def test_an_index_that_the_plugin_lost_is_the_first() -> None:
    file = AccountFile.model_validate_json('{"version": 1, "accounts": [], "activeIndex": null}')
    assert file.active_index == 0


def test_the_cooldown_that_ends_last_counts_for_its_model_alone() -> None:
    account = oauth(
        "a",
        cooldowns={
            "*": Cooldown(until=100, reason="burst", since=0),
            "m": Cooldown(until=None, reason="not_entitled", since=0),
        },
    )

    of_m, of_other = account.cooldown("m", 50), account.cooldown("other", 50)

    assert of_m is not None
    assert of_m.reason == "not_entitled"
    assert of_other is not None
    assert of_other.until == 100
    assert account.cooldown("other", 100) is None
    assert account.cooldown("m", 10**15) is not None


def test_the_plugins_own_cooldown_is_one_for_all_models() -> None:
    account = oauth("a", rate_limit_reset_at=100)
    cooldown = account.cooldown("any", 99)
    assert cooldown is not None
    assert (cooldown.reason, cooldown.until) == ("burst", 100)
    assert account.cooldown("any", 100) is None


@pytest.mark.parametrize(
    ("account", "usable"),
    [
        (oauth("waits for its first refresh"), True),
        (oauth("disabled", disabled=True), False),
        (oauth("needs login", needs_login=True), False),
        (oauth("cools", rate_limit_reset_at=100), False),
        (Account(name="key", api_key=SecretStr("fake-key")), True),
        (Account(name="access alone", access_token=SecretStr("fake-access")), True),
    ],
    ids=lambda value: value.name if isinstance(value, Account) else None,
)
def test_an_account_is_usable_unless_something_speaks_against_it(
    account: Account, usable: bool
) -> None:
    assert account.is_usable("m", now=50) is usable


def test_only_an_access_token_with_a_known_end_expires() -> None:
    assert oauth("a", expires=1000).expires_within(300, now=700)
    assert not oauth("a", expires=1000).expires_within(300, now=699)
    assert not oauth("a").expires_within(300, now=700)
    assert not Account(api_key=SecretStr("k"), expires=1).expires_within(300, now=700)


def test_an_added_account_has_a_name_of_its_own() -> None:
    file = file_of(oauth("account-2")).add(oauth("", "other"))
    assert len({a.name for a in file.accounts}) == 2
    with pytest.raises(ValueError, match="already an account named"):
        file.add(oauth("account-2", "third"))


def test_a_change_finds_its_account_by_name_and_leaves_the_others() -> None:
    file = file_of(oauth("a"), oauth("b", "other"))

    changed = file.change("b", lambda a: a.model_copy(update={"disabled": True}))

    assert [a.disabled for a in changed.accounts] == [False, True]


def test_an_account_that_is_gone_is_not_brought_back_by_a_late_change() -> None:
    file = file_of(oauth("a"), oauth("b", "other"))
    assert file.remove("b").replace(oauth("b", "other")).find("b") is None


def test_a_renamed_account_may_not_take_the_name_of_another() -> None:
    file = file_of(oauth("a"), oauth("b", "other"))
    with pytest.raises(ValueError, match="already an account named 'a'"):
        file.change("b", lambda b: b.model_copy(update={"name": "a"}))


def test_the_plugins_index_stays_inside_when_accounts_are_removed() -> None:
    file = file_of(oauth("a"), oauth("b", "other"), active_index=1)
    assert file.remove("b").active_index == 0
    assert file.remove("b").remove("a").active_index == 0


def test_a_refresh_token_that_we_redeemed_is_never_offered_when_the_plugin_brings_it_back() -> None:
    before = oauth("a", "first")
    after = file_of(before).replace(oauth("a", "second"))
    brought_back = file_of(*after.accounts, oauth("", "first"))

    assert [a.refresh_token for a in brought_back.named()] == [SecretStr("second")]
    with pytest.raises(ValueError, match="redeemed already"):
        after.add(oauth("b", "first"))


def test_the_entry_that_the_plugin_left_behind_at_its_refresh_needs_a_login() -> None:
    dead = oauth("a", "first", added_at=7, expires=100)
    live = oauth("a", "second", added_at=7, expires=200)

    named = {a.name: a for a in file_of(dead, live).named()}

    assert named["a"].refresh_token == SecretStr("second")
    assert not named["a"].needs_login
    assert named["a-2"].needs_login


def test_accounts_of_one_name_that_were_added_apart_are_both_alive() -> None:
    named = file_of(oauth("a", "1", added_at=7), oauth("a", "2", added_at=8)).named()
    assert not any(a.needs_login for a in named)


def test_the_placeholder_that_the_plugin_needs_is_no_refresh_token() -> None:
    (account,) = read(
        {"apiKey": "k", "refreshToken": f"{PLACEHOLDER}0", "rateLimitResetAt": 8_640_000_000_000}
    )
    assert account.refresh_token is None
    assert account.is_usable("m", now=0)


def test_the_line_end_of_a_pasted_key_is_no_part_of_it() -> None:
    (account,) = read({"apiKey": " fake-key\n"})
    assert account.credential is not None
    assert account.credential.get_secret_value() == "fake-key"


@pytest.mark.parametrize("resource_url", ["127.0.0.1:99999", "https://", "ftp://a.test"])
def test_a_resource_url_that_is_none_does_not_stop_the_login(resource_url: str) -> None:
    (account,) = read({"accessToken": "fake", "resourceUrl": resource_url})
    assert account.endpoint("https://default.test/v1") == "https://default.test/v1"
