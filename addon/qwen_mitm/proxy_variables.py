"""``HTTPS_PROXY`` and its kin, as programs read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit


def variable(env: Mapping[str, str], name: str) -> str:
    """The value of ``HTTPS_PROXY``, say; the lower-case one wins, as in Python, curl and Node."""
    return (env.get(name.lower()) or env.get(name) or "").strip()


def host_and_port(address: str) -> tuple[str, int] | None:
    """Of a proxy; None when the address cannot be read."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        default = {"https": 443, "socks5": 1080, "socks5h": 1080, "socks4": 1080}
        return (parts.hostname or "", parts.port or default.get(parts.scheme, 80))
    except ValueError:
        return None


def is_excluded(no_proxy: str, host: str, port: int) -> bool:
    """Whether ``NO_PROXY`` keeps a host from the proxy."""
    host = host.lower().rstrip(".")
    for entry in no_proxy.replace(",", " ").lower().split():
        if entry == "*":
            return True
        name, _, wanted_port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if wanted_port.isdigit() and int(wanted_port) != port:
            continue
        name = name.removeprefix("*").removeprefix(".").rstrip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False
