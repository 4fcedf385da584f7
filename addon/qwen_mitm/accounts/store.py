"""The account file: read, checked, and read again when it changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError

from qwen_mitm.errors import NoUsableAccount
from qwen_mitm.settings import Settings, config_home

from .model import Account, AccountFile

FILE_NAME = "qwen-auth-accounts.json"

type _Stamp = tuple[int, int, int]


class AccountStore:
    """The accounts of one file.

    A file that is corrupt or of an unknown version is an error each time, never an empty one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: _Stamp | None = None
        self._accounts: tuple[Account, ...] = ()

    def accounts(self) -> tuple[Account, ...]:
        """The accounts as they are on disk now; costs one stat when nothing changed.

        Raises:
            NoUsableAccount: there is no file, or it cannot be used; names the path and the field.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise NoUsableAccount(
                f"There is no account: {self.path} does not exist. Create it, or set QWEN_API_KEY "
                "and QWEN_API_BASE_URL where mitmproxy runs."
            ) from None
        except OSError as error:
            raise NoUsableAccount(
                f"The account file {self.path} cannot be read: {error.strerror}."
            ) from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._accounts = self._read()
            self._stamp = stamp
        return self._accounts

    def _read(self) -> tuple[Account, ...]:
        try:
            return AccountFile.model_validate_json(self.path.read_bytes()).named()
        except OSError as error:
            raise NoUsableAccount(
                f"The account file {self.path} cannot be read: {error.strerror}."
            ) from None
        except ValidationError as error:
            # pydantic's own text may quote the input, which holds tokens.
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise NoUsableAccount(
                f"The account file {self.path} cannot be used: {where}: {first['msg']}. "
                "Mend it; it was not changed."
            ) from None

    def too_open(self) -> bool:
        """Whether others on this machine may read the file."""
        if os.name == "nt":
            return False
        try:
            return bool(os.stat(self.path).st_mode & 0o077)
        except OSError:
            return False


def accounts_path(settings: Settings, env: Mapping[str, str]) -> Path:
    """Where the account file is (qwen.md §1.5)."""
    if settings.accounts_file:
        return Path(settings.accounts_file).expanduser()
    return config_home(env) / FILE_NAME


def embedded_accounts(env: Mapping[str, str], settings: Settings) -> tuple[Account, ...]:
    """The account of ``QWEN_API_KEY`` and ``QWEN_API_BASE_URL``, if both are set.

    The key alone is not enough: programs behind the proxy use the same variable for their own.
    """
    key = env.get("QWEN_API_KEY")
    if not key or not env.get("QWEN_API_BASE_URL"):
        return ()
    account = Account(
        name="QWEN_API_KEY",
        kind="api_key",
        api_key=SecretStr(key),
        base_url=settings.base_url,
    )
    return (account,)
