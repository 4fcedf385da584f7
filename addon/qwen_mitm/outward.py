"""The proxy of the network that upstream connections have to pass, as the environment names it.

Pure. mitmproxy reads none of these variables, and its ``upstream`` mode knows no ``NO_PROXY``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from qwen_mitm.admission import is_loopback
from qwen_mitm.proxy_variables import is_excluded, variable

type Scheme = Literal["http", "https"]
type Via = tuple[Scheme, tuple[str, int]]
"""mitmproxy's ``ServerSpec``."""


class UnusableProxy(ValueError):
    """A variable names what mitmproxy cannot use; the message does not quote it."""


@dataclass(frozen=True, slots=True)
class NetworkProxy:
    variable: str
    scheme: Scheme
    host: str
    port: int
    authorization: SecretStr | None = None
    """``Basic …``, from the user and password in the address."""

    @classmethod
    def of(cls, env: Mapping[str, str], name: str) -> NetworkProxy | None:
        """That of a variable, if it is set.

        Raises:
            UnusableProxy: it is no address of an HTTP proxy.
        """
        address = variable(env, name)
        if not address:
            return None
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host:
            raise UnusableProxy(f"{name} is no address of a proxy")
        scheme: Scheme
        match parts.scheme:
            case "http" | "https" as scheme:
                pass
            case other:
                raise UnusableProxy(f"{name} names a proxy of the kind {other}")
        login = None
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = SecretStr(f"Basic {base64.b64encode(words.encode()).decode()}")
        default = 443 if scheme == "https" else 80
        return cls(name, scheme, host, port or default, login)

    @property
    def via(self) -> Via:
        return self.scheme, (self.host, self.port)

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.variable})"


class Outward:
    """Which proxy a destination is reached through. Names of this machine need none."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._no_proxy = variable(env, "NO_PROXY")
        self.problems: list[str] = []
        everything = self._read(env, "ALL_PROXY")
        self._by_scheme = {
            "https": self._read(env, "HTTPS_PROXY") or everything,
            "http": self._read(env, "HTTP_PROXY") or everything,
        }

    def _read(self, env: Mapping[str, str], name: str) -> NetworkProxy | None:
        try:
            return NetworkProxy.of(env, name)
        except UnusableProxy as error:
            self.problems.append(str(error))
            return None

    @property
    def proxies(self) -> list[NetworkProxy]:
        return list(dict.fromkeys(filter(None, self._by_scheme.values())))

    def without(self, proxy: NetworkProxy) -> None:
        """Do without that one: it is ourselves."""
        self._by_scheme = {s: None if p == proxy else p for s, p in self._by_scheme.items()}

    def proxy_for(self, scheme: str, host: str, port: int) -> NetworkProxy | None:
        if is_loopback(host) or is_excluded(self._no_proxy, host, port):
            return None
        return self._by_scheme.get(scheme)

    def authorization(self, host: str, port: int) -> SecretStr | None:
        """What the proxy at this address wants to see; nobody else gets it."""
        found = (p.authorization for p in self.proxies if (p.host, p.port) == (host, port))
        return next(found, None)
