"""The account file as bytes: reading, checking, and replacing it in one step."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationError

from qwen_mitm.errors import BridgeError, NoUsableAccount

from .model import PLACEHOLDER, Account, AccountFile

#: The last moment that a date of JavaScript can hold, so that the plugin never tries an API key.
NEVER: Final = 8_640_000_000_000_000

#: One name is enough, because only the holder of the lock writes; what a killed writer left is
#: replaced by the next.
TEMPORARY_SUFFIX: Final = ".tmp-qwen-mitm"

_SECRETS: Final = {
    "refresh_token": "refreshToken",
    "access_token": "accessToken",
    "api_key": "apiKey",
}


class AccountFileError(BridgeError):
    """The account file could not be changed; it is as it was."""

    default_code = "account_file_error"


def parse(content: bytes, path: Path) -> AccountFile:
    """The file's content, checked.

    Raises:
        NoUsableAccount: corrupt or of an unknown version; names the field, and quotes nothing.
    """
    try:
        return AccountFile.model_validate_json(content)
    except ValidationError as error:
        # pydantic's own text may quote the input, which holds tokens.
        first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole file"
    what = first["msg"].removeprefix("Value error, ")
    mend = "Mend it"
    if first["loc"] == ("version",) and first["type"] == "literal_error":
        mend = "A newer program may have written it: update qwen-mitm"
    raise NoUsableAccount(
        f"The account file {path} cannot be used: {where}: {what}. {mend}; it was not changed."
    )


def encode(file: AccountFile) -> bytes:
    """What is written: the plugin's format, all that the file held, and the secrets in clear."""
    taken: set[str] = set()
    document = {
        "version": file.version,
        "accounts": [_entry(account, taken) for account in file.accounts],
        "activeIndex": file.active_index,
        **(file.__pydantic_extra__ or {}),
    }
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"


def _entry(account: Account, taken: set[str]) -> dict[str, object]:
    # The plugin makes a missing time NaN when it saves.
    times = {"added_at": account.added_at or 0, "last_used": account.last_used or 0}
    # Defaults are left out: the plugin writes back what it once read, but keeps newer keys.
    entry: dict[str, object] = account.model_copy(update=times).model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude=set(_SECRETS)
    )
    for field, key in _SECRETS.items():
        secret = getattr(account, field)
        if isinstance(secret, SecretStr):
            entry[key] = secret.get_secret_value()
    if (account.api_key or account.is_web_chat) and not account.refresh_token:
        entry["refreshToken"] = _placeholder(account, taken)
        entry["rateLimitResetAt"] = NEVER
    return entry


def _placeholder(account: Account, taken: set[str]) -> str:
    """The plugin takes entries with the same token for one, also after a rename of ours."""
    key = account.api_key.get_secret_value() if account.api_key else ""
    own: list[object] = [key, account.base_url, account.provider]
    identity = json.dumps(own + [account.credential_id] * account.is_web_chat).encode()
    placeholder = PLACEHOLDER + hashlib.sha256(identity).hexdigest()[:16]
    while placeholder in taken:
        placeholder += "+"
    taken.add(placeholder)
    return placeholder


def replace(path: Path, content: bytes, confirm: Callable[[], None]) -> os.stat_result:
    """Put ``content`` in the file's place, all of it or nothing, readable for its owner alone.

    ``confirm`` is called when the new file is safely on disk, and may raise to stop. The caller
    holds the lock. Returns the status of the new file.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            _keep_owner(descriptor, path)
            os.fsync(descriptor)
            status = os.fstat(descriptor)
        confirm()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return status


def _keep_owner(descriptor: int, path: Path) -> None:
    """A proxy that was started with sudo leaves the user their file."""
    if os.name == "nt" or os.geteuid() != 0:
        return
    owner = path if path.exists() else path.parent
    status = owner.stat()
    os.fchown(descriptor, status.st_uid, status.st_gid)


def _sync_folder(folder: Path) -> None:
    # Not on Windows, and some file systems cannot; the file itself is synced and in its place.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
