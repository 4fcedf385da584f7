"""Files with the authorities that a program is to trust, for one run."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

import certifi

from qwen_mitm.clients.environment import ADDING, CODEX, REPLACING, Trust

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
#: Debian and Arch, Fedora, openSUSE, macOS and Alpine.
_SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def trust_files(folder: Path, ca: Path, env: Mapping[str, str]) -> Trust:
    """Write them into a folder of the run.

    Raises:
        OSError: the proxy's own cannot be read, or nothing can be written.
    """
    proxys = ca.read_bytes()
    bundle = folder / "bundle.pem"
    bundle.write_bytes(_joined([*_systems(), *_persons(env, (*REPLACING, CODEX)), proxys]))
    added = list(_persons(env, (ADDING,)))
    extra = folder / "extra.pem"
    extra.write_bytes(_joined([*added, proxys]))
    return Trust(bundle=str(bundle), extra=str(extra))


def _systems() -> Iterable[bytes]:
    yield Path(certifi.where()).read_bytes()
    compiled = ssl.get_default_verify_paths().openssl_cafile
    for path in (*_SYSTEM, compiled):
        if content := _read(Path(path)):
            yield content
            return


def _persons(env: Mapping[str, str], names: Iterable[str]) -> Iterable[bytes]:
    """What programs were told to trust; a file that is not there was no help before either."""
    for name in names:
        if path := env.get(name):
            yield _read(Path(path).expanduser())
    for folder in filter(None, env.get("SSL_CERT_DIR", "").split(":")):
        if Path(folder).is_dir():
            yield from map(_read, sorted(Path(folder).iterdir()))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _joined(contents: Iterable[bytes]) -> bytes:
    """Each certificate once."""
    found = dict.fromkeys(block for content in contents for block in _PEM.findall(content))
    return b"\n".join(found) + b"\n"
