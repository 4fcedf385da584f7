from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.pool import pick

WORK = Account(name="work", api_key=SecretStr("fake-1"))
HOME = Account(name="home", api_key=SecretStr("fake-2"))
OFF = Account(name="off", api_key=SecretStr("fake-3"), disabled=True)
LOGGED_OUT = Account(name="old", refresh_token=SecretStr("fake-4"))


def test_disabled_accounts_and_those_without_a_token_are_passed_over() -> None:
    assert pick([OFF, LOGGED_OUT, WORK]) is WORK


def test_an_account_that_was_tried_is_not_next() -> None:
    assert pick([WORK, HOME], tried=["work"]) is HOME


def test_without_a_usable_account_there_is_none() -> None:
    assert pick([OFF]) is None
