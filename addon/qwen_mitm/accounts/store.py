"""The account file: read again when it changed, and changed in one transaction."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from qwen_mitm.errors import NoUsableAccount
from qwen_mitm.settings import Settings, config_home

from .files import AccountFileError, encode, parse, replace
from .locks import Intruded, LockFolder, kernel_lock
from .model import Account, AccountFile

FILE_NAME = "qwen-auth-accounts.json"

#: Ours may not be ``<file>.lock``, which is the plugin's folder.
LOCK_SUFFIX: Final = ".lock-qwen-mitm"
#: A refresh waits for the token endpoint, and others wait for that refresh.
REFRESH_TIMEOUT_S: Final = 120.0
#: How often a change is done again because another program broke in.
MAX_INTRUSIONS: Final = 3

# Two changes within a tick of the file system's clock may leave the same time, size and inode.
_TICK_NS: Final = 20_000_000

type _Stamp = tuple[int, int, int]


def _stamp(status: os.stat_result) -> _Stamp | None:
    """What tells a version of the file from the next; None when it is too young to be told."""
    if status.st_mtime_ns > time.time_ns() - _TICK_NS:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class AccountStore:
    """The accounts of one file.

    A file that is corrupt or of an unknown version is an error each time, never an empty one, and
    is never overwritten. A symbolic link stays one. Everything here blocks, but for ``cached``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # One assignment, so that another thread never sees a half.
        self._seen: tuple[_Stamp | None, tuple[Account, ...]] = (None, ())
        self._one_change = threading.Lock()

    def accounts(self) -> tuple[Account, ...]:
        """The accounts as they are on disk now; costs one stat when nothing changed.

        Raises:
            NoUsableAccount: there is no file, or it cannot be used; names the path and the field.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise NoUsableAccount(
                f"There is no account: {self.path} does not exist. Run qwen-mitm login, or set "
                "QWEN_API_KEY and QWEN_API_BASE_URL where mitmproxy runs."
            ) from None
        except OSError as error:
            raise self._unreadable(error) from None
        known, accounts = self._seen
        if known is not None and known == (status.st_mtime_ns, status.st_size, status.st_ino):
            return accounts
        stamp = _stamp(status)
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from None
        accounts = parse(content, self.path).named()
        self._seen = (stamp, accounts)
        return accounts

    def cached(self) -> tuple[Account, ...]:
        """The accounts as last read, without a look at the disk; none before that."""
        return self._seen[1]

    def update(self, change: Callable[[AccountFile], AccountFile]) -> AccountFile:
        """Change the file as it is on disk now, as the only one among all processes.

        ``change`` gets accounts that all have names, may raise to leave the file as it is, and
        may be called again when another program broke in. A missing file is an empty one. When
        this returns, the change is on disk.

        Raises:
            NoUsableAccount: the file is corrupt or of an unknown version.
            AccountFileError: it cannot be locked or written.
        """
        target = Path(os.path.realpath(self.path))
        with self._one_change, self._locked(target):
            for _ in range(MAX_INTRUSIONS):
                try:
                    with LockFolder(target).held() as folder:
                        return self._changed(target, change, folder.confirm)
                except Intruded:
                    continue
                except OSError as error:
                    raise AccountFileError(
                        f"The account file {self.path} cannot be written: {error.strerror}. It is "
                        "as it was."
                    ) from None
        raise AccountFileError(
            f"The account file {self.path} was not changed: another program kept taking its lock "
            "away."
        )

    def refresh_lock(self, name: str) -> AbstractContextManager[None]:
        """The right, among all processes, to redeem the refresh token of this account.

        May be entered and left in different threads.

        Raises:
            AccountFileError: on entering: somebody holds it for minutes, or it cannot be made.
        """
        return self._refresh_lock(hashlib.sha256(name.encode()).hexdigest()[:16])

    @contextmanager
    def _refresh_lock(self, key: str) -> Iterator[None]:
        target = Path(os.path.realpath(self.path))
        folder = target.with_name(f"{target.name}.refresh-qwen-mitm")
        self._make_folder(folder)
        with kernel_lock(folder / key, timeout_s=REFRESH_TIMEOUT_S):
            yield

    @contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        self._make_folder(target.parent)
        with kernel_lock(target.with_name(target.name + LOCK_SUFFIX)):
            yield

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise AccountFileError(f"{folder} cannot be made: {error.strerror}.") from None

    def _changed(
        self,
        target: Path,
        change: Callable[[AccountFile], AccountFile],
        confirm: Callable[[], None],
    ) -> AccountFile:
        try:
            before = target.read_bytes()
        except FileNotFoundError:
            before = None
        except OSError as error:
            raise self._unreadable(error) from None
        file = AccountFile(version=1) if before is None else parse(before, self.path)
        file = change(file.model_copy(update={"accounts": file.named()}))
        content = encode(file)
        # What cannot be read again is never written.
        accounts = parse(content, self.path).named()
        if content != before:
            self._seen = (_stamp(replace(target, content, confirm)), accounts)
        return file

    def _unreadable(self, error: OSError) -> NoUsableAccount:
        whose = " It must belong to you, with mode 600." * isinstance(error, PermissionError)
        return NoUsableAccount(
            f"The account file {self.path} cannot be read: {error.strerror}.{whose}"
        )

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
    # A line end that came along would end the header.
    key = env.get("QWEN_API_KEY", "").strip()
    if not key or not env.get("QWEN_API_BASE_URL"):
        return ()
    account = Account(
        name="QWEN_API_KEY",
        kind="api_key",
        api_key=SecretStr(key),
        base_url=settings.base_url,
    )
    return (account,)
