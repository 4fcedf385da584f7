"""Where a proxy that is to be started listens, and keeps its authority."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path


class ProxyFailure(Exception):
    """The proxy did not start; the message says why, or has the end of its log."""


def authority(options: Sequence[str]) -> Path:
    """Where mitmproxy keeps the key of its own, once it has made one."""
    named = [o.removeprefix("confdir=") for o in options if o.startswith("confdir=")]
    return Path(os.path.expanduser(named[-1] if named else "~/.mitmproxy")) / "mitmproxy-ca.pem"


def check_authority(key: Path) -> None:
    """mitmproxy's own words for it are a traceback.

    Raises:
        ProxyFailure: there is none, and none can be made.
    """
    folder = key.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if key.exists():
            key.open("rb").close()
        else:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ProxyFailure(
            f"The proxy's certificate authority is kept in {folder}, and that cannot be used: "
            f"{error.strerror}. Name another folder: --set confdir=FOLDER"
        ) from None


def free_port(wanted: int) -> int:
    """The wanted one, or another when that is taken."""
    if not why_not_free(wanted):
        return wanted
    with socket.create_server(("127.0.0.1", 0)) as probe:
        found: int = probe.getsockname()[1]
        return found


def why_not_free(port: int) -> str:
    """Empty: a proxy may listen there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        # asyncio and socket.create_server put the address behind it.
        return os.strerror(error.errno) if error.errno else str(error)
    return ""
