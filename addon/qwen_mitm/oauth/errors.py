"""What can go wrong with a login.

    OAuthError
    ├── LoginFailed             the device flow ended without tokens
    │   ├── LoginDenied         the person said no
    │   └── LoginExpired        nobody said yes in time
    ├── NeedsLogin              the account's refresh token is no good, and marked so on disk
    └── RefreshFailed           this time; the account stays as it was

Messages are sentences for a person and name the account. None of them holds a token.
"""

from __future__ import annotations


class OAuthError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class LoginFailed(OAuthError):
    pass


class LoginDenied(LoginFailed):
    def __init__(self) -> None:
        super().__init__("The login was denied in the browser.")


class LoginExpired(LoginFailed):
    def __init__(self) -> None:
        super().__init__("The code expired before it was confirmed. Start the login again.")


class NeedsLogin(OAuthError):
    def __init__(self, account: str, reason: str) -> None:
        super().__init__(f"Account {account!r} needs a new login: {reason}.")
        self.account = account


class RefreshFailed(OAuthError):
    def __init__(self, account: str, reason: str) -> None:
        super().__init__(f"The token of account {account!r} could not be refreshed: {reason}.")
        self.account = account
