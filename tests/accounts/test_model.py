import json

import pytest
from pydantic import ValidationError

from qwen_mitm.accounts.model import Account, AccountFile, normalise_resource_url

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
    ],
)
def test_an_account_that_cannot_be_used_is_refused(account: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(account)
