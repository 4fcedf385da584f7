"""Who may use the accounts."""

from __future__ import annotations

import hmac
import ipaddress

from qwen_mitm.errors import Unauthorized
from qwen_mitm.exchange import HeaderFields
from qwen_mitm.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether an address of a socket is this machine's own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def peers_may_be_remote(settings: Settings) -> bool:
    return settings.allow_remote and bool(settings.local_key.get_secret_value())


def admit(fields: HeaderFields, settings: Settings) -> None:
    """Check a request's local key, or without one that no web page sent it.

    A page that the user visits can send requests to a loopback port. Browsers then say so in
    ``origin`` or ``sec-fetch-site``; programs do not send these.

    Raises:
        Unauthorized: not admitted.
    """
    key = settings.local_key.get_secret_value()
    values = {name.lower(): value for name, value in fields}
    if not key:
        cross_site = values.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        if b"origin" in values or cross_site:
            raise Unauthorized(
                "Requests from web pages are refused. Set qwen_local_key and send it as the API "
                "key to allow them."
            )
        return
    sent = values.get(b"authorization", b"").removeprefix(b"Bearer ")
    if not hmac.compare_digest(sent, key.encode()):
        raise Unauthorized(
            "The API key is not the qwen_local_key of this proxy. Use that as the client's API key."
        )
