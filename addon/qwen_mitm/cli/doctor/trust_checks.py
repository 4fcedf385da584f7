"""mitmproxy's certificate authority: whether it is there, in use and trusted. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from .check import Check, fault, not_checked, ok, warning
from .facts import Client, Facts, Tunnel
from .route_checks import NO_PROXY_HERE, points_here

_SEE: Final = "certs/README.md"
#: What each of them is called, and the variable that makes it trust one more.
_RUNTIMES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "python": ("Python", "SSL_CERT_FILE"),
        "node": ("Node", "NODE_EXTRA_CA_CERTS"),
        "curl": ("curl", "CURL_CA_BUNDLE"),
    }
)
#: Programs that are not asked, because their words for it are long in coming.
_BY_FILE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "opencode": ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"),
        "codex": ("CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"),
    }
)


def checks(facts: Facts) -> Iterator[Check]:
    if facts.is_reverse_only:
        yield not_checked("ca", "A reverse proxy at an http address needs no authority.")
        return
    yield _authority(facts)
    yield from _private_key(facts)
    yield _in_use(facts)
    for name in _RUNTIMES:
        yield _runtime(facts, name)
    for name, client in (("opencode", facts.opencode), ("codex", facts.codex)):
        if client.path is not None:
            yield _client(facts, name, client)


def _is_usable(facts: Facts) -> bool:
    ca = facts.authority
    return not (ca.is_missing or ca.problem) and ca.begins <= facts.now_ms / 1000 < ca.ends


def _is_in_use(facts: Facts) -> bool:
    """Whether the authority on disk is worth trusting."""
    tunnel = facts.tunnels.get("disk")
    return _is_usable(facts) and (tunnel is None or tunnel.outcome != "untrusted")


def _authority(facts: Facts) -> Check:
    ca = facts.authority
    if ca.is_missing and facts.proxy.answer == "refused":
        return not_checked("ca", f"{ca.path} is made by the first start of the proxy.")
    if ca.is_missing:
        return fault(
            "ca",
            f"There is no certificate authority: {ca.path} does not exist.",
            "The first start of the proxy makes it. Set confdir if it is elsewhere.",
        )
    anew = f"Stop the proxy, remove {ca.path} and mitmproxy-ca.pem beside it, and start it again."
    if ca.problem:
        return fault("ca", f"{ca.path} cannot be used: {ca.problem}.", anew)
    now = facts.now_ms / 1000
    if not ca.begins <= now < ca.ends:
        words = f"is valid from {_day(ca.begins)} to {_day(ca.ends)}, and not now"
        return fault("ca", f"The authority {ca.path} {words}.", anew)
    return ok("ca", f"The authority {ca.path} is valid until {_day(ca.ends)}.")


def _private_key(facts: Facts) -> Iterator[Check]:
    ca = facts.authority
    if ca.key_is_open:
        yield warning(
            "ca.key",
            f"Others on this machine can read the private key {ca.key_path}.",
            f"chmod 600 {ca.key_path}",
        )
    if not ca.key_matches:
        yield fault(
            "ca.key",
            f"{ca.path} is not the certificate of the key in {ca.key_path}.",
            f"Remove {ca.path} and start the proxy again: it makes it from the key.",
        )


def _in_use(facts: Facts) -> Check:
    tunnel = facts.tunnels.get("disk")
    if facts.proxy.answer != "ours" or tunnel is None:
        return not_checked("ca.in_use", NO_PROXY_HERE)
    if not _is_usable(facts):
        return not_checked("ca.in_use", "There is no good authority on disk to compare with.")
    if tunnel.outcome == "untrusted":
        return fault(
            "ca.in_use",
            f"The proxy shows certificates of another authority than {facts.authority.path}.",
            "Start the proxy again; and set confdir if it uses another folder.",
        )
    if tunnel.outcome == "failed":
        return fault(
            "ca.in_use",
            f"No TLS connection through the proxy to a host that it rewrites: {tunnel.words}.",
            "Look at its log; ignore_hosts and allow_hosts must not take the host away.",
        )
    return ok("ca.in_use", "The proxy's certificates are of that authority.")


def _runtime(facts: Facts, name: str) -> Check:
    tunnel = facts.tunnels.get(name)
    title, variable = _RUNTIMES[name]
    check = f"trust.{name}"
    if tunnel is None:
        return not_checked(check, NO_PROXY_HERE)
    match tunnel.outcome:
        case "absent":
            return not_checked(check, f"There is no {title} here.")
        case "trusted":
            return ok(check, f"{title} trusts the authority: a TLS connection was made.")
        case "failed":
            return not_checked(check, f"{title} made no connection: {tunnel.words}.")
    ca = facts.authority.path
    if _is_fault(facts, name, tunnel):
        return fault(
            check,
            f"{title} does not trust the authority{_because(tunnel)}.",
            f"export {variable}={ca}" + ("" if name == "node" else f", or a bundle: see {_SEE}."),
        )
    return warning(
        check,
        f"{title} does not trust the authority in this shell{_because(tunnel)}.",
        f"qwen-mitm run -- COMMAND sets what it needs; or export {variable}={ca} (see {_SEE}).",
    )


def _is_fault(facts: Facts, name: str, tunnel: Tunnel) -> bool:
    """Whether a program that is started here is certain to fail."""
    variable = _RUNTIMES[name][1]
    bundle = facts.bundles.get(variable)
    if bundle is not None and not bundle.is_readable:
        return True
    if name == "curl" or not points_here(facts):
        return False
    nobody = not any(bundle.has_authority for bundle in facts.bundles.values())
    return bundle is not None or (name == "python" and nobody)


def _because(tunnel: Tunnel) -> str:
    return f": {tunnel.words}" if tunnel.words else ""


def _client(facts: Facts, name: str, client: Client) -> Check:
    title = {"opencode": "OpenCode", "codex": "Codex"}[name]
    variables = _BY_FILE[name]
    check = f"trust.{name}"
    if not _is_in_use(facts):
        return not_checked(check, "The authority on disk is not that of the proxy.")
    named = {v: facts.bundles[v] for v in variables if v in facts.bundles}
    good = [variable for variable, bundle in named.items() if bundle.has_authority]
    if good:
        return ok(check, f"{title} is told of the authority by {good[0]}.")
    advice = f"export {variables[0]}={facts.authority.path}"
    if points_here(facts):
        message = f"{title} is sent to the proxy, and told of its authority by no variable."
        return fault(check, message, advice)
    return not_checked(check, f"{title} is not sent to the proxy in this shell.", "")


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
