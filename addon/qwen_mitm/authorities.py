"""The certificate authorities that upstream connections trust: mitmproxy's, and a company's own.

mitmproxy takes either certifi's list or a file instead of it, and does not read SSL_CERT_FILE.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

import certifi

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def with_more(named: Path, not_these: Path, folder: Path) -> tuple[Path, int] | None:
    """A file with certifi's authorities and those of ``named``, and how many that adds.

    None when it adds none. Those in ``not_these`` are left out: a shell that is set up for clients
    of this proxy names mitmproxy's own. The file is in ``folder``, named after its content.

    Raises:
        OSError: ``named`` cannot be read, or the file cannot be written.
    """
    more = certificates(named.read_text("utf-8", "replace"))
    known = certificates(Path(certifi.where()).read_text("utf-8"))
    if not_these.is_file():
        known |= certificates(not_these.read_text("utf-8"))
    added = sorted(more - known)
    if not added:
        return None
    text = Path(certifi.where()).read_text("utf-8") + "".join(map(_pem, added))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder / f"authorities-{digest}.pem"
    if not path.exists():
        _write(path, text)
    return path, len(added)


def certificates(text: str) -> set[bytes]:
    """Those in a text in PEM format, as DER; what cannot be decoded is left out."""
    found = set()
    for block in _PEM.findall(text):
        try:
            found.add(base64.b64decode(block))
        except ValueError:
            continue
    return found


def _pem(der: bytes) -> str:
    lines = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n"


def _write(path: Path, text: str) -> None:
    """All of it or nothing, for whoever starts at the same time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(temporary, path)
