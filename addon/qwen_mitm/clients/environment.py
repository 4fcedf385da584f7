"""The environment that sends a program through the proxy (certs/README.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from .provider import ANY_KEY, LOCAL_KEY_VARIABLE

#: Variables whose file stands in the place of a program's own authorities.
REPLACING: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Those whose file is added to them, as far as each version of the program does so.
ADDING: Final = "NODE_EXTRA_CA_CERTS"
CODEX: Final = "CODEX_CA_CERTIFICATE"
#: Where programs look for a proxy, also in lower case.
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY")
#: Programs talk to themselves there, OpenCode to its own server.
_HERE: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a program reaches the proxy."""

    proxy: str | None
    """Its address; None in reverse mode, where only the base URL leads there."""
    base_url: str
    hosts: Sequence[str] = ()
    """The claimed origins, as URLs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Files with authorities."""

    bundle: str
    """All that the system and the person trust, and the proxy's."""
    extra: str
    """The proxy's, and what the person has added for Node."""


def through(env: Mapping[str, str], way: Way, trust: Trust) -> dict[str, str]:
    """What is to be set on top of ``env``."""
    if way.proxy is None:
        return {}
    changed = {name: way.proxy for name in both_cases(_PROXIES)}
    excepted, _ = no_proxy(env, way.hosts)
    changed |= dict.fromkeys(both_cases(("NO_PROXY",)), excepted)
    changed |= dict.fromkeys((*REPLACING, CODEX), trust.bundle)
    changed[ADDING] = trust.extra
    # Node 24 looks at the variables above only when told to.
    changed["NODE_USE_ENV_PROXY"] = env.get("NODE_USE_ENV_PROXY") or "1"
    return changed


def for_sdks(env: Mapping[str, str], way: Way) -> dict[str, str]:
    """What makes a program of one of OpenAI's SDKs use the proxy, where it is not set."""
    wanted = {
        "OPENAI_BASE_URL": way.base_url,
        "OPENAI_API_KEY": env.get(LOCAL_KEY_VARIABLE) or ANY_KEY,
    }
    return {name: value for name, value in wanted.items() if not env.get(name)}


def no_proxy(env: Mapping[str, str], claimed: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The person's exceptions, and this machine; and those left out, for they cover a claim."""
    said = ",".join(filter(None, (env.get("NO_PROXY"), env.get("no_proxy"))))
    entries = list(dict.fromkeys(filter(None, said.replace(",", " ").split())))
    hosts = [urlsplit(url).hostname or "" for url in claimed]
    left_out = tuple(entry for entry in entries if any(_covers(entry, host) for host in hosts))
    kept = [entry for entry in entries if entry not in left_out]
    return ",".join(dict.fromkeys((*kept, *_HERE))), left_out


def both_cases(names: Sequence[str]) -> list[str]:
    return [form for name in names for form in (name, name.lower())]


def _covers(entry: str, host: str) -> bool:
    name = entry.rpartition("://")[2].partition(":")[0].lower().removeprefix("*").lstrip(".")
    return entry == "*" or host == name or (bool(name) and host.endswith(f".{name}"))
