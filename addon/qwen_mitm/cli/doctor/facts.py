"""What is known before anything is judged. Gathered in gathering.py, judged by the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qwen_mitm.accounts.model import Account
from qwen_mitm.cli.probe import Finding
from qwen_mitm.settings import Settings
from qwen_mitm.status import Status

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
type Answered = Literal["ours", "other", "refused", "silent", "password"]
CA_VARIABLES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Installation:
    python: tuple[int, int, int]
    version: str
    """Of qwen-mitm."""
    mitmproxy: str
    missing: tuple[str, ...] = ()
    """What the failover layer needs and this mitmproxy does not have."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """``host`` and ``port`` of the one that was asked; ``words`` say why it is not ours."""

    host: str
    port: int
    answer: Answered
    words: str = ""
    status: Status | None = None
    is_named: bool = True
    """Somebody said that it is there; else it is the usual place."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Authority:
    """mitmproxy's certificate authority on disk; times are seconds since 1970."""

    path: str
    problem: str = ""
    """Why it cannot be used; empty: it can."""
    is_missing: bool = False
    begins: float = 0.0
    ends: float = 0.0
    key_path: str = ""
    key_is_open: bool = False
    """Others on this machine can read its private key."""
    key_matches: bool = True


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A TLS connection through the proxy to a claimed host, made with one's own trust."""

    outcome: Literal["trusted", "untrusted", "failed", "absent"]
    """absent: there is no such program here."""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The file that a variable names."""

    path: str
    is_readable: bool
    has_authority: bool
    """It holds the proxy's CA."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that means nothing here, and the one that it is most like."""

    name: str
    where: str
    nearest: str | None


@dataclass(frozen=True, slots=True)
class AccountsFile:
    path: str
    exists: bool
    is_open: bool
    """Others on this machine can read it."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stanza:
    """What a client's configuration says of one provider."""

    file: str
    provider: str
    base_url: str
    speaks: str
    """``npm`` of OpenCode, ``wire_api`` of Codex; empty: the default."""
    is_chosen: bool = True
    key_variable: str = ""
    """The variable that must be set, and is not."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that may be installed, and its configuration."""

    path: str | None
    version: str | None = None
    stanzas: tuple[Stanza, ...] = ()
    problems: tuple[str, ...] = ()
    """Files that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Facts:
    installation: Installation
    proxy: Proxy
    authority: Authority
    settings: Settings | None
    settings_problem: str
    unknown: tuple[Unknown, ...]
    accounts_file: AccountsFile | None
    """None: the one account is that of the environment."""
    accounts: tuple[Account, ...]
    now_ms: int
    env: Mapping[str, str]
    """The variables about proxies, by upper-case name; of two the lower-case one counts."""
    contradictions: tuple[str, ...] = ()
    """Variables whose two spellings differ."""
    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    tunnels: Mapping[str, Tunnel] = field(default_factory=dict)
    """By whose trust: ``disk`` (the CA on disk alone), ``python``, ``node``, ``curl``."""
    upgrade: int | None = None
    """The status that a WebSocket upgrade got."""
    probes: Mapping[str, Finding | str] | None = None
    """By account; a string: why it could not be asked. None: nobody was asked."""
    opencode: Client = Client(None)
    codex: Client = Client(None)

    @property
    def status(self) -> Status | None:
        return self.proxy.status

    @property
    def is_reverse_only(self) -> bool:
        modes = self.status.modes if self.status else ()
        return bool(modes) and all(mode.startswith("reverse:") for mode in modes)
