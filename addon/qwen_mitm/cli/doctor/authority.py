"""mitmproxy's certificate authority as it is on disk."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from .facts import CA_VARIABLES, Authority, Bundle

CERTIFICATE, KEY = "mitmproxy-ca-cert.pem", "mitmproxy-ca.pem"

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def read_authority(confdir: Path) -> Authority:
    path, key_path = confdir / CERTIFICATE, confdir / KEY
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return Authority(str(path), is_missing=True, problem="it does not exist")
    except OSError as error:
        return Authority(str(path), problem=error.strerror or str(error))
    except ValueError:
        return Authority(str(path), problem="it is no certificate in PEM format")
    beside = _certificates(key_path)
    return Authority(
        str(path),
        problem="" if _is_authority(certificate) else "it is no certificate of an authority",
        begins=certificate.not_valid_before_utc.timestamp(),
        ends=certificate.not_valid_after_utc.timestamp(),
        key_path=str(key_path),
        key_is_open=_is_open(key_path),
        key_matches=not beside or bool(beside & _certificates(path)),
    )


def read_bundles(env: Mapping[str, str], confdir: Path) -> dict[str, Bundle]:
    """What the variables name that are set."""
    authority = _certificates(confdir / CERTIFICATE)
    found = {}
    for variable in CA_VARIABLES:
        if named := env.get(variable):
            path = Path(named)
            held = _certificates(path)
            is_readable = path.is_file() and os.access(path, os.R_OK)
            found[variable] = Bundle(named, is_readable, bool(held & authority))
    return found


def _certificates(path: Path) -> set[bytes]:
    """Those of a file in PEM format; none when there is none or it is something else."""
    try:
        text = path.read_text("utf-8", "replace")
        return {base64.b64decode(block) for block in _PEM.findall(text)}
    except (OSError, ValueError):
        return set()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _is_open(path: Path) -> bool:
    if os.name == "nt":
        return False
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False
