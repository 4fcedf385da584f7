"""Logins of other programs, copied (formats in qwen.md §2.3).

A refresh token works once. After an import the other program should be logged out, or else the
first of the two to refresh ends the login of the other.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    SecretStr,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from .model import Account

#: qwen-code's own file, and the only one that its lock is for.
QWEN_CODE_FILE: Final = "oauth_creds.json"
LOCK_STALE_AFTER_S: Final = 35.0
#: qwen-code itself gives up after about as long.
LOCK_TIMEOUT_S: Final = 36.0
_POLL_S: Final = 0.1


class ImportFailed(Exception):
    """A login that cannot be imported; the message names the file and says what to do."""


class _Login(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    access_token: SecretStr
    refresh_token: SecretStr
    resource_url: str | None = None

    @field_validator("access_token", "refresh_token")
    @classmethod
    def _is_there(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("is empty")
        return value


class _QwenCodeLogin(_Login):
    """``~/.qwen/oauth_creds.json``, and ``oauth_creds_<id>.json`` of one account each."""

    expiry_date: Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, float) else v)]

    def expires(self) -> int:
        return self.expiry_date


class _CliProxyLogin(_Login):
    """``~/.cli-proxy-api/qwen-<email>.json``."""

    type: Literal["qwen"]
    email: str = ""
    expired: datetime

    def expires(self) -> int:
        """Its RFC 3339 time; UTC when that names no zone."""
        moment = self.expired if self.expired.tzinfo else self.expired.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


def _program(document: object) -> str:
    return "cli-proxy" if isinstance(document, dict) and "type" in document else "qwen-code"


_LOGIN: Final = TypeAdapter[_QwenCodeLogin | _CliProxyLogin](
    Annotated[
        Annotated[_QwenCodeLogin, Tag("qwen-code")] | Annotated[_CliProxyLogin, Tag("cli-proxy")],
        Discriminator(_program),
    ]
)


def found(home: Path) -> list[Path]:
    """The files of a home folder that can be imported."""
    qwen = home / ".qwen"
    return [
        *(path for path in [qwen / QWEN_CODE_FILE] if path.is_file()),
        *sorted(qwen.glob("oauth_creds_*.json")),
        *sorted((home / ".cli-proxy-api").glob("qwen-*.json")),
    ]


def read_login(path: Path, *, now: int, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Account:
    """The account of a file of another program, whose format its content tells.

    The file is only read, while no qwen-code refreshes it. ``now`` becomes ``added_at``.

    Raises:
        ImportFailed: it cannot be read, is none of the known formats, or stays locked.
    """
    try:
        with _qwen_code_lock(path, lock_timeout_s):
            content = path.read_bytes()
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error.strerror}.") from None
    login = _parse(content, path)
    return Account(
        name=_name(login, path),
        kind="oauth",
        refresh_token=login.refresh_token,
        access_token=login.access_token,
        expires=login.expires(),
        resource_url=login.resource_url or None,
        added_at=now,
    )


def _parse(content: bytes, path: Path) -> _QwenCodeLogin | _CliProxyLogin:
    try:
        return _LOGIN.validate_json(content)
    except ValidationError as error:
        # pydantic's own text may quote the input, which holds tokens.
        first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the whole file"
    what = first["msg"].removeprefix("Value error, ")
    raise ImportFailed(f"{path} is no Qwen login of qwen-code or CLIProxyAPI: {where}: {what}.")


def _name(login: _QwenCodeLogin | _CliProxyLogin, path: Path) -> str:
    if isinstance(login, _CliProxyLogin):
        return login.email or path.stem.removeprefix("qwen-")
    if path.name == QWEN_CODE_FILE:
        return "qwen-code"
    return path.stem.removeprefix("oauth_creds_")


@contextmanager
def _qwen_code_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Keep qwen-code from refreshing meanwhile: the copied token would be spent."""
    if path.name != QWEN_CODE_FILE or not path.parent.is_dir():
        yield
        return
    lock = path.with_name("oauth_creds.lock")
    token = str(uuid.uuid4())
    try:
        _take(lock, token, timeout_s)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        # A folder that may only be read, such as a mount in a container: better than no import.
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.read_text() == token:
                lock.unlink()


def _take(lock: Path, token: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            _remove_if_stale(lock)
        else:
            with open(descriptor, "w") as stream:
                stream.write(token)
            return
        if time.monotonic() > deadline:
            raise ImportFailed(f"{lock} is held by another program. Close qwen-code and try again.")
        time.sleep(_POLL_S)


def _remove_if_stale(lock: Path) -> None:
    with suppress(FileNotFoundError):
        if lock.stat().st_mtime < time.time() - LOCK_STALE_AFTER_S:
            # Renaming first, as qwen-code does, lets one of several take it away.
            aside = lock.with_name(f"{lock.name}.stale.{uuid.uuid4()}")
            lock.rename(aside)
            aside.unlink()
