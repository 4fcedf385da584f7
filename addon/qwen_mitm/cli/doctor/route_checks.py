"""The way from a program to the proxy. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from qwen_mitm.admission import is_loopback
from qwen_mitm.proxy_variables import host_and_port, is_excluded
from qwen_mitm.settings import Origin

from .check import Check, fault, not_checked, ok, warning
from .facts import Facts

NO_PROXY_HERE = "No proxy of ours answers."


def checks(facts: Facts) -> Iterator[Check]:
    yield _proxy(facts)
    yield from _running(facts)
    yield _hosts(facts)
    yield _websocket(facts)
    yield from _environment(facts)


def _proxy(facts: Facts) -> Check:
    proxy, status = facts.proxy, facts.status
    if not proxy.is_named and proxy.answer in ("refused", "silent", "other"):
        who = "nothing" if proxy.answer == "refused" else "another program"
        return warning(
            "proxy",
            f"No proxy runs at the usual place: {who} answers at {proxy.address}.",
            "qwen-mitm run has its own: qwen-mitm run -- qwen-mitm doctor. scripts/run starts one "
            "that stays; --port says where.",
        )
    match proxy.answer:
        case "refused":
            return fault(
                "proxy",
                f"Nothing answers at {proxy.address}{_words(proxy.words)}.",
                "Start it: qwen-mitm run, or scripts/run. Does it run at another port? Say --port.",
            )
        case "silent":
            return fault(
                "proxy",
                f"Something at {proxy.address} takes connections and does not answer.",
                "If that is the proxy, it hangs: stop it and start it again.",
            )
        case "password":
            return fault(
                "proxy",
                f"The proxy at {proxy.address} wants a password (proxyauth).",
                f"Say --proxy http://USER:PASSWORD@{proxy.address}, and let HTTPS_PROXY be that.",
            )
        case "other":
            return fault(
                "proxy",
                f"What answers at {proxy.address} is not qwen-mitm{_words(proxy.words)}.",
                "Stop that program, or start the proxy at another port and say --port here.",
            )
    assert status is not None
    if status.version != facts.installation.version:
        return warning(
            "proxy",
            f"qwen-mitm {status.version} runs at {proxy.address}; this is "
            f"{facts.installation.version}.",
            "Start the proxy again, so that both are the same.",
        )
    modes = ", ".join(status.modes)
    which = f"process {status.pid}"
    if status.workers > 1:
        which = f"worker {status.worker} of {status.workers}, {which}"
    return ok("proxy", f"qwen-mitm answers at {proxy.address} ({which}, {modes}).")


def _words(words: str) -> str:
    return f" ({words})" if words else ""


def _running(facts: Facts) -> Iterator[Check]:
    status = facts.status
    if status is None:
        yield not_checked("listening", NO_PROXY_HERE)
        return
    beyond = [address for address in status.listen if not is_loopback(address)]
    if not beyond:
        yield ok("listening", f"It listens on this machine alone: {', '.join(status.listen)}.")
    elif status.allow_remote:
        yield warning(
            "listening",
            f"It also listens for other machines, at {', '.join(beyond)}; they need the local key.",
            "If that is not wanted, start it without qwen_allow_remote.",
        )
    else:
        yield fault(
            "listening",
            f"It listens for other machines, at {', '.join(beyond)}.",
            "Start it with --listen-host 127.0.0.1.",
        )


def claimed(facts: Facts) -> list[Origin]:
    """The origins that are rewritten: by the word of the proxy, else by the settings here."""
    if facts.status is not None:
        return [Origin.parse(host) for host in facts.status.hosts]
    return sorted(facts.settings.origins, key=str) if facts.settings else []


def _hosts(facts: Facts) -> Check:
    if facts.status is None:
        return not_checked("hosts", NO_PROXY_HERE)
    theirs = set(facts.status.hosts)
    ours = {str(origin) for origin in facts.settings.origins} if facts.settings else theirs
    if theirs != ours:
        return warning(
            "hosts",
            f"The proxy rewrites {', '.join(sorted(theirs))}; the settings here say "
            f"{', '.join(sorted(ours))}.",
            "Start the proxy again with QWEN_HOSTS or qwen.json as they are here, or correct them.",
        )
    return ok("hosts", f"Requests to {', '.join(sorted(theirs))} are rewritten.")


def _websocket(facts: Facts) -> Check:
    match facts.upgrade:
        case None:
            return not_checked("websocket", "There was no connection to ask on.")
        case 101:
            return ok("websocket", "WebSocket works (101): Codex and others may use it.")
        case 426:
            return ok(
                "websocket",
                "WebSocket is answered 426: Codex goes on over HTTP at once, and nothing is lost.",
            )
        case 401:
            return fault(
                "websocket",
                "The proxy wants its local key (401).",
                "Set QWEN_LOCAL_KEY here too, and let clients send it as their API key.",
            )
        case status:
            return fault(
                "websocket",
                f"WebSocket is answered {status}: Codex would try seven times before it uses HTTP.",
                "Say supports_websockets = false in Codex' provider, and report this answer.",
            )


# The variables of the shell ----------------------------------------------------------------------


def points_here(facts: Facts) -> bool:
    """Whether programs that are started in this shell go through the proxy."""
    return _is_proxy(facts, facts.env.get("HTTPS_PROXY", ""))


def _is_proxy(facts: Facts, address: str) -> bool:
    found = host_and_port(address) if address else None
    if found is None:
        return False
    host, port = found
    same = host == facts.proxy.host or (is_loopback(host) and is_loopback(facts.proxy.host))
    return same and port == facts.proxy.port


def _environment(facts: Facts) -> Iterator[Check]:
    if facts.is_reverse_only:
        yield not_checked("env.proxy", "A reverse proxy needs no variables, but its own base URL.")
        return
    here = f"http://{facts.proxy.address}"
    address = facts.env.get("HTTPS_PROXY", "")
    if facts.contradictions:
        yield warning(
            "env.proxy",
            f"{' and '.join(facts.contradictions)} differ from their lower-case spellings.",
            "Set both to the same, or unset one: programs do not agree on which one counts.",
        )
    elif points_here(facts):
        yield ok("env.proxy", "HTTPS_PROXY leads programs of this shell to the proxy.")
        yield from _exclusions(facts)
    elif not address and _is_proxy(facts, facts.env.get("HTTP_PROXY", "")):
        yield fault(
            "env.proxy",
            "HTTP_PROXY leads to the proxy and HTTPS_PROXY is not set: requests are HTTPS.",
            f"export HTTPS_PROXY={here}",
        )
    elif address:
        yield warning(
            "env.proxy",
            f"HTTPS_PROXY leads elsewhere, to {_shown(address)}.",
            f"export HTTPS_PROXY={here}, or start programs with qwen-mitm run -- COMMAND.",
        )
    else:
        yield _unset(facts, here)


def _unset(facts: Facts, here: str) -> Check:
    everything = facts.env.get("ALL_PROXY", "")
    if everything and not _is_proxy(facts, everything):
        return warning(
            "env.proxy",
            f"ALL_PROXY leads to {_shown(everything)}, and HTTPS_PROXY is not set.",
            f"export HTTPS_PROXY={here}; it goes before ALL_PROXY.",
        )
    return warning(
        "env.proxy",
        "HTTPS_PROXY is not set in this shell: programs that are started here go past the proxy.",
        f"qwen-mitm run -- COMMAND sets it; or export HTTPS_PROXY={here}",
    )


def _exclusions(facts: Facts) -> Iterator[Check]:
    no_proxy = facts.env.get("NO_PROXY", "")
    hidden = [o for o in claimed(facts) if is_excluded(no_proxy, o.host, o.port)]
    if hidden:
        names = ", ".join(dict.fromkeys(origin.host for origin in hidden))
        yield fault(
            "env.no_proxy",
            f"NO_PROXY ({no_proxy}) keeps {names} from the proxy.",
            "Take that entry out of NO_PROXY: export NO_PROXY=localhost,127.0.0.1",
        )
    else:
        yield ok("env.no_proxy", "NO_PROXY keeps none of these hosts from the proxy.")


def _shown(address: str) -> str:
    """Without the password."""
    found = host_and_port(address)
    return f"{found[0]}:{found[1]}" if found else "an address that cannot be read"
