from __future__ import annotations

from qwen_mitm.oauth.errors import (
    LoginDenied,
    LoginExpired,
    LoginFailed,
    NeedsLogin,
    OAuthError,
    RefreshFailed,
)


def test_a_denied_or_expired_login_is_a_failed_one() -> None:
    assert isinstance(LoginDenied(), LoginFailed)
    assert isinstance(LoginExpired(), LoginFailed)


def test_errors_of_an_account_name_it_and_the_reason() -> None:
    for error in (NeedsLogin("work", "invalid_grant"), RefreshFailed("work", "invalid_grant")):
        assert isinstance(error, OAuthError)
        assert error.account == "work"
        assert "'work'" in error.message
        assert str(error) == error.message
        assert error.message.endswith(": invalid_grant.")
