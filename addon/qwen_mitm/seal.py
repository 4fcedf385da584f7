"""Sealed texts: what a client keeps for us and sends back, and only this installation can open.

A thought or a compacted conversation travels to the client and back as ``encrypted_content``
(responses-to-chat §7.4, §12). The key is in a file of its own, made when it is first needed.
"""

from __future__ import annotations

import logging
import os
import zlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qwen_mitm.accounts.files import AccountFileError, replace
from qwen_mitm.accounts.locks import kernel_lock
from qwen_mitm.settings import config_home

type SealedKind = Literal["thought", "compaction", "of a host"]

KEY_FILE: Final = "qwen-mitm.key"
LOCK_SUFFIX: Final = ".lock-qwen-mitm"

_VERSION: Final = "qm1."
_KEY_BYTES: Final = 32
#: Random nonces of this length are safe for 2**32 texts with one key (NIST SP 800-38D §8.3).
_NONCE_BYTES: Final = 12
_PLAIN: Final = b"\x00"
_DEFLATED: Final = b"\x01"

logger = logging.getLogger(__name__)


class Seal:
    """Seals and opens texts with one key, with AES-256-GCM.

    ``nonce`` must never return the same bytes twice for one key.
    """

    def __init__(self, key: bytes, *, nonce: Callable[[int], bytes] = os.urandom) -> None:
        self._cipher = AESGCM(key)
        self._nonce = nonce

    def seal(self, kind: SealedKind, text: str) -> str:
        """``qm1.`` and base64url; opens for this kind and this key alone."""
        # A host's JSON may hold a lone surrogate, which has no other UTF-8 form.
        plain = text.encode("utf-8", "surrogatepass")
        deflated = zlib.compress(plain)
        body = _DEFLATED + deflated if len(deflated) < len(plain) else _PLAIN + plain
        nonce = self._nonce(_NONCE_BYTES)
        return _VERSION + _encoded(nonce + self._cipher.encrypt(nonce, body, _bound_to(kind)))

    def unseal(self, kind: SealedKind, token: str) -> str | None:
        """The text; ``None`` when it is foreign, changed, of another kind or another key's."""
        sealed = _decoded(token.removeprefix(_VERSION)) if token.startswith(_VERSION) else None
        if sealed is None or len(sealed) < _NONCE_BYTES:
            return None
        nonce, box = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            body = self._cipher.decrypt(nonce, box, _bound_to(kind))
        except InvalidTag:
            return None
        plain = zlib.decompress(body[1:]) if body[:1] == _DEFLATED else body[1:]
        return plain.decode("utf-8", "surrogatepass")


def key_path(env: Mapping[str, str]) -> Path:
    """The key file of this installation, beside qwen.json."""
    return config_home(env) / KEY_FILE


def installed_seal(path: Path) -> Seal:
    """The seal with the key in this file, which is made if it is not there.

    A file that cannot be read, understood or made is left as it is: a warning says so, and the
    seal gets a key of its own that is lost with the process.
    """
    try:
        key = _key_of(_content(path) or _created(path))
        _warn_if_too_open(path)
        return Seal(key)
    except AccountFileError as error:
        why = error.message
    except OSError as error:
        why = f"{error.filename or path}: {error.strerror}."
    except ValueError:
        why = (
            f"{path} is not a key file of qwen-mitm. Put the right one in its place, or remove it "
            "to get a new one."
        )
    logger.warning(
        "qwen-mitm: no lasting key for sealed thoughts, so what clients send back of them and of "
        "compacted conversations is lost when this process ends: %s",
        why,
    )
    return Seal(os.urandom(_KEY_BYTES))


def _warn_if_too_open(path: Path) -> None:
    # The mode says nothing on Windows.
    if os.name != "nt" and path.stat().st_mode & 0o077:
        logger.warning("qwen-mitm: others on this machine can read %s; chmod 600 it.", path)


def _content(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    # An empty file is a broken one, and not one that is missing.
    return content or b"\n"


def _created(path: Path) -> bytes:
    """What the file holds in the end: ours, or what another process made first."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with kernel_lock(target.with_name(target.name + LOCK_SUFFIX)):
        content = _content(target)
        if content is None:
            content = (_VERSION + _encoded(os.urandom(_KEY_BYTES)) + "\n").encode()
            replace(target, content, lambda: None)
    return content


def _key_of(content: bytes) -> bytes:
    text = content.decode("ascii").strip()
    key = _decoded(text.removeprefix(_VERSION)) if text.startswith(_VERSION) else None
    if key is None or len(key) != _KEY_BYTES:
        raise ValueError
    return key


def _bound_to(kind: SealedKind) -> bytes:
    return f"{_VERSION}{kind}".encode()


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes | None:
    try:
        data = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    # The last character has bits that mean nothing: only one spelling of them is ours.
    return data if _encoded(data) == text else None
