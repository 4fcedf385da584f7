"""The user's own ``bx-umidtoken`` and cookies of chat.qwen.ai, in SQLite (web-chat.md §7)."""

from __future__ import annotations

import binascii
import hashlib
import json
import re
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

from qwen_mitm.redaction import redacted

from .database import Database

TOKEN_VARIABLE: Final = "QWEN_TOKEN"
COOKIES_VARIABLE: Final = "QWEN_COOKIES"
#: On the wire alone.
SECRET_HEADERS: Final = frozenset({b"bx-umidtoken", b"cookie", b"authorization"})

_JWT: Final = re.compile(r"(?:^|;\s*)token=([\w-]+\.([\w-]+)\.[\w-]+)")
_LONGEST: Final = 65_536
_COLUMNS: Final = "id, token, cookies, expires_at, created_at, updated_at"


def _fits_a_header(value: SecretStr) -> SecretStr:
    """Pasted values have a line end perhaps; one in the middle would make a header more."""
    secret = value.get_secret_value().strip()
    if not secret:
        raise ValueError("must not be empty")
    if not secret.isascii() or not secret.isprintable() or len(secret) > _LONGEST:
        raise ValueError("must be one line of printable ASCII")
    return SecretStr(secret)


_Secret = Annotated[SecretStr, AfterValidator(_fits_a_header)]


class Credentials(BaseModel):
    """What a browser that is logged in, or a guest, shows to the site."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    token: _Secret
    cookies: _Secret
    expires_at: int | None = None
    """Seconds since 1970; None: nothing tells."""

    @property
    def jwt(self) -> SecretStr | None:
        """The login, which is among the cookies; a guest has none."""
        found = _JWT.search(self.cookies.get_secret_value())
        return SecretStr(found[1]) if found else None

    def is_over(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def headers(self) -> dict[str, str]:
        """For the wire, and for nothing else."""
        headers = {
            "bx-umidtoken": self.token.get_secret_value(),
            "cookie": self.cookies.get_secret_value(),
        }
        if self.jwt is not None:
            headers["authorization"] = f"Bearer {self.jwt.get_secret_value()}"
        return headers

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """All of it and its parts: the site may quote one cookie."""
        values = [pair.partition("=")[2] for pair in self.cookies.get_secret_value().split(";")]
        return self.cookies, self.token, *(SecretStr(value.strip()) for value in values)

    def redact(self, text: str) -> str:
        """A text of the site without any of the credentials."""
        return redacted(text, self.secrets)

    def digest(self) -> str:
        """The same for the same credentials, and tells nothing of them."""
        both = [self.token.get_secret_value(), self.cookies.get_secret_value()]
        return hashlib.sha256(json.dumps(both).encode()).hexdigest()


class StoredCredentials(Credentials):
    id: int
    created_at: int
    updated_at: int


def read_credentials(token: str, cookies: str) -> Credentials:
    """Credentials as a person has pasted them; a login among the cookies tells when it is over.

    Raises:
        ValueError: one of them is none.
    """
    cookies = re.sub(r"^\s*cookie:\s*", "", cookies, flags=re.IGNORECASE)
    token = re.sub(r"^\s*bx-umidtoken:\s*", "", token, flags=re.IGNORECASE)
    if re.search(r"[\s;,]", token.strip()):
        raise ValueError("a bx-umidtoken is one word")
    if "=" not in cookies:
        raise ValueError("cookies look like name=value; name=value")
    return Credentials(
        token=SecretStr(token), cookies=SecretStr(cookies), expires_at=_end_of_login(cookies)
    )


def _end_of_login(cookies: str) -> int | None:
    found = _JWT.search(cookies)
    if found is None:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)))
    except (ValueError, binascii.Error):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    return int(end) if isinstance(end, int | float) and 0 < end < 2**53 else None


class CredentialStore:
    """The table ``qwen_credentials``. Everything blocks, for milliseconds.

    Without an id, the newest that are not over are meant. Each method raises ``DatabaseFault``.
    """

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    def get(self, credential_id: int | None = None) -> StoredCredentials | None:
        """Those that may be used now."""
        if not self._database.exists:
            return None
        with self._database.transaction() as rows:
            row = _find(rows, credential_id, int(self._now()))
        return None if row is None else _read(row)

    def set(self, credentials: Credentials) -> StoredCredentials:
        """Keep new ones, which are the current ones from now on."""
        with self._database.transaction(lasting=True) as rows:
            return _insert(rows, credentials, int(self._now()))

    def update(self, credential_id: int, credentials: Credentials) -> StoredCredentials | None:
        """Put new ones in the place of old ones; None: these are gone."""
        with self._database.transaction(lasting=True) as rows:
            return _replace(rows, credential_id, credentials, int(self._now()))

    def is_valid(self, credential_id: int | None = None) -> bool:
        """They are there, and not over."""
        return self.get(credential_id) is not None

    def has(self, credential_id: int | None = None) -> bool:
        """They are there, and over perhaps."""
        if not self._database.exists:
            return False
        with self._database.transaction() as rows:
            query = "SELECT 1 FROM qwen_credentials WHERE ? IS NULL OR id = ?"
            return rows.execute(query, (credential_id, credential_id)).fetchone() is not None

    def delete(self, credential_id: int | None = None) -> bool:
        """Forget those, or all; False: there were none."""
        if not self._database.exists:
            return False
        with self._database.transaction(lasting=True) as rows:
            if credential_id is None:
                return rows.execute("DELETE FROM qwen_credentials").rowcount > 0
            done = rows.execute("DELETE FROM qwen_credentials WHERE id = ?", (credential_id,))
            return done.rowcount > 0

    def headers(self, credential_id: int | None = None) -> dict[str, str] | None:
        """For the wire; None: there are none that may be used."""
        found = self.get(credential_id)
        return None if found is None else found.headers()

    def adopt(self, env: Mapping[str, str]) -> StoredCredentials | None:
        """Keep those of the environment, when it has any that were not taken from there last time.

        Newer values win over what is stored: they replace the only ones that there are, or become
        the current ones. A login wins over what the environment had before it.

        Raises:
            ValueError: a variable is set and is no credential.
        """
        token, cookies = env.get(TOKEN_VARIABLE, ""), env.get(COOKIES_VARIABLE, "")
        if not (token.strip() and cookies.strip()):
            return None
        credentials = read_credentials(token, cookies)
        digest, now = credentials.digest(), int(self._now())
        with self._database.transaction(lasting=True) as rows:
            if rows.execute("SELECT 1 FROM environment WHERE digest = ?", (digest,)).fetchone():
                return None
            rows.execute("DELETE FROM environment")
            rows.execute("INSERT INTO environment VALUES (?)", (digest,))
            ids = rows.execute("SELECT id FROM qwen_credentials LIMIT 2").fetchall()
            if len(ids) == 1:
                return _replace(rows, ids[0][0], credentials, now)
            return _insert(rows, credentials, now)


def _insert(rows: sqlite3.Connection, credentials: Credentials, now: int) -> StoredCredentials:
    row = rows.execute(
        "INSERT INTO qwen_credentials (token, cookies, expires_at, created_at, updated_at) "
        f"VALUES (?, ?, ?, ?, ?) RETURNING {_COLUMNS}",
        (*_values(credentials), now, now),
    ).fetchone()
    return _read(row)


def _replace(
    rows: sqlite3.Connection, credential_id: int, credentials: Credentials, now: int
) -> StoredCredentials | None:
    row = rows.execute(
        "UPDATE qwen_credentials SET token = ?, cookies = ?, expires_at = ?, updated_at = ? "
        f"WHERE id = ? RETURNING {_COLUMNS}",
        (*_values(credentials), now, credential_id),
    ).fetchone()
    return None if row is None else _read(row)


def _find(
    rows: sqlite3.Connection, credential_id: int | None, now: int
) -> tuple[object, ...] | None:
    query = (
        f"SELECT {_COLUMNS} FROM qwen_credentials WHERE (expires_at IS NULL OR expires_at > ?) "
        "AND (? IS NULL OR id = ?) ORDER BY updated_at DESC, id DESC LIMIT 1"
    )
    found = rows.execute(query, (now, credential_id, credential_id))
    row: tuple[object, ...] | None = found.fetchone()
    return row


def _values(credentials: Credentials) -> tuple[str, str, int | None]:
    return (
        credentials.token.get_secret_value(),
        credentials.cookies.get_secret_value(),
        credentials.expires_at,
    )


def _read(row: tuple[object, ...]) -> StoredCredentials:
    names = _COLUMNS.split(", ")
    return StoredCredentials.model_validate(dict(zip(names, row, strict=True)))
