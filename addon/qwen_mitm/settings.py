"""Every option, declared once.

Sources, low to high (qwen.md §1.8): the defaults here, ``qwen.json`` in the user's configuration
folder, ``.opencode/qwen.json`` in the project, the environment, ``--set qwen_…`` of mitmproxy.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

OPTION_PREFIX = "qwen_"

#: Keys of qwen.json that mean something to the OpenCode plugin alone (qwen.md §1.8).
PLUGIN_ONLY_KEYS = frozenset({"pid_offset_enabled", "health_score", "token_bucket"})


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and where it came from."""


_HOST = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port that a request was made to. ``host`` is lower case."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read ``host``, ``host:port`` or ``https://host[:port]``; https is the default scheme.

        Raises:
            ValueError: not of that form.
        """
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
            raise ValueError(f"{text!r} is not a host name, host:port, or http(s) URL")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            raise ValueError(f"{text!r} must name a host alone, without a path or user")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, host.rstrip("."), port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def _split_words(value: object) -> object:
    """``QWEN_HOSTS="a, b"`` and a list are the same thing."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _plugin_strategy(value: object) -> object:
    """The plugin's ``hybrid`` also goes round the accounts; its health scores are its own."""
    return "round-robin" if value == "hybrid" else value


def _option(default: Any, description: str, *, env: str | None = None, **rules: Any) -> Any:
    """A field with its environment variable; without ``env`` it is ``QWEN_`` + the name."""
    return Field(
        default, description=description, json_schema_extra={"env": env} if env else None, **rules
    )


class Settings(BaseModel):
    """All options of qwen-mitm. Times are whole seconds, because mitmproxy has no float options."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hosts: Annotated[tuple[str, ...], BeforeValidator(_split_words)] = _option(
        ("portal.qwen.ai",),
        "Hosts whose Responses requests are rewritten: host, host:port or http(s)://host:port. "
        "All others are tunnelled undecrypted.",
        min_length=1,
    )
    base_url: str = _option(
        "https://portal.qwen.ai/v1",
        "Base URL of accounts that do not name their own.",
        env="QWEN_API_BASE_URL",
    )
    accounts_file: str = _option(
        "",
        "Account file. Empty: qwen-auth-accounts.json in the OpenCode configuration folder.",
    )
    client_id: str = _option(
        "f0304373b74a44d2b584a3fb70ca9e56",
        "OAuth client id.",
        env="QWEN_OAUTH_CLIENT_ID",
    )
    oauth_base_url: str = _option(
        "https://chat.qwen.ai", "Where OAuth tokens come from.", env="QWEN_OAUTH_BASE_URL"
    )
    rotation_strategy: Annotated[
        Literal["round-robin", "sequential", "sticky"], BeforeValidator(_plugin_strategy)
    ] = _option("round-robin", "Which account the next request takes.")
    proactive_refresh: bool = _option(True, "Refresh OAuth tokens before they expire.")
    refresh_window_seconds: int = _option(
        300, "Refresh an OAuth token this long before it expires.", ge=0
    )
    max_rate_limit_wait_seconds: int = _option(
        300,
        "Longest wait for a limited account; a longer retry-after is not passed on.",
        ge=0,
    )
    quiet_mode: bool = _option(False, "No log line per turn.")
    reasoning_events: Literal["auto", "summary", "content"] = _option(
        "auto",
        "How thoughts are streamed: reasoning_summary_* or reasoning_text events. auto: summary "
        "when the request asks for one or the client shows nothing else, else content.",
    )
    heartbeat_seconds: int = _option(
        15, "An SSE comment goes to the client when nothing else did for this long.", ge=1
    )
    upstream_timeout_seconds: int = _option(
        300, "An upstream that sends nothing for this long is given up.", ge=1
    )
    max_body_mb: int = _option(64, "Largest request body, also after decompression.", ge=1)
    websocket: bool = _option(
        True, "Serve WebSocket mode (GET .../responses with upgrade). Off: 426, and POST is used."
    )
    responses_file: str = _option(
        "", "Where responses are kept. Empty: a folder for state of our own."
    )
    responses_days: int = _option(
        30, "Responses are kept this long, unless the client sends store: false.", ge=1
    )
    responses_mb: int = _option(256, "Beyond this size the oldest responses are removed.", ge=1)
    keep_flows: int = _option(
        500,
        "So many finished turns stay in mitmweb and in mitmproxy's console, and those that are "
        "marked; 0: all.",
        ge=0,
    )
    prices: str = _option(
        "",
        "JSON file with the price of a million tokens of each model, for the cost of each turn. "
        "Empty: no costs.",
    )
    status_port: int = _option(
        0, "Loopback port of the status page, beside http://qwen.mitm/; 0: none.", ge=0, le=65535
    )
    metrics_port: int = _option(
        0,
        "Loopback port of the metrics for Prometheus, beside http://qwen.mitm/metrics; 0: none.",
        ge=0,
        le=65535,
    )
    days_kept: int = _option(
        90, "So many days of turns and tokens per account are kept on disk; 0: none.", ge=0
    )
    otel: bool = _option(
        False,
        "Send a span for each turn, as the OTEL_* variables say. Needs the extra 'otel'.",
    )
    allow_insecure: bool = _option(
        False, "Send credentials although ssl_insecure is set. Anybody on the way can read them."
    )
    allow_remote: bool = _option(
        False, "Let programs on other machines use the accounts. Needs qwen_local_key."
    )
    local_key: SecretStr = _option(
        SecretStr(""),
        "Key that clients must send as their API key. Prefer QWEN_LOCAL_KEY: options are readable "
        "in mitmweb.",
    )

    @field_validator("hosts")
    @classmethod
    def _hosts_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            Origin.parse(host)
        return value

    @field_validator("base_url", "oauth_base_url")
    @classmethod
    def _is_http_url(cls, value: str) -> str:
        parts = urlsplit(value.strip())
        # Asking for the port raises ValueError when it is out of range.
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("must be an http or https URL")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must be a URL without user, query and fragment")
        return value.strip().rstrip("/")

    @functools.cached_property
    def origins(self) -> frozenset[Origin]:
        return frozenset(Origin.parse(host) for host in self.hosts)


@dataclass(frozen=True, slots=True)
class Source:
    """Values and the words for where they are from."""

    name: str
    values: Mapping[str, Any]


def env_name(field: str) -> str:
    """The environment variable of a field."""
    extra = Settings.model_fields[field].json_schema_extra
    named = extra.get("env") if isinstance(extra, dict) else None
    return str(named) if named else f"QWEN_{field.upper()}"


def config_home(env: Mapping[str, str]) -> Path:
    """OpenCode's configuration folder, where qwen.json and the account file live (qwen.md §1.5)."""
    if os.name == "nt":
        root = env.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
    else:
        root = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(root) / "opencode"


def from_environment(env: Mapping[str, str]) -> Source:
    names = {field: env_name(field) for field in Settings.model_fields}
    return Source("environment", {f: env[n] for f, n in names.items() if env.get(n)})


def from_json(path: Path) -> Source:
    """Read one qwen.json; a missing file has no values.

    Raises:
        SettingsError: unreadable, not JSON, or not an object.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Source(str(path), {})
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SettingsError(f"{path} cannot be read: {reason}. Mend or remove it.") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{path} must hold a JSON object.")
    return Source(str(path), document)


def unknown_keys(source: Source) -> list[str]:
    return sorted(set(source.values) - set(Settings.model_fields) - PLUGIN_ONLY_KEYS)


def merge(sources: Sequence[Source]) -> Settings:
    """Settings from sources, later ones winning.

    Raises:
        SettingsError: names the option, what is wrong with it and the source it came from.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in sources:
        for field in Settings.model_fields.keys() & source.values.keys():
            values[field] = source.values[field]
            origin[field] = source.name
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise SettingsError(
            f"{OPTION_PREFIX}{field} ({env_name(field)}) from {origin[field]}: {reason}"
        ) from None


def ambient_sources(env: Mapping[str, str], project: Path) -> list[Source]:
    """What is set outside mitmproxy, low to high.

    Raises:
        SettingsError: as :func:`from_json`.
    """
    return [
        from_json(config_home(env) / "qwen.json"),
        from_json(project / ".opencode" / "qwen.json"),
        from_environment(env),
    ]


class OptionLoader(Protocol):
    """mitmproxy's ``addonmanager.Loader``."""

    def add_option(
        self,
        name: str,
        typespec: Any,
        default: Any,
        help: str,  # noqa: A002 - mitmproxy's name
        choices: Sequence[str] | None = None,
    ) -> None: ...


def _mitmproxy_type(info: FieldInfo) -> tuple[Any, Callable[[Any], Any], Sequence[str] | None]:
    """mitmproxy's type, the default as that type, and the choices of a field."""
    kind = info.annotation
    if kind in (int, bool, str):
        return kind, lambda value: value, None
    if kind is SecretStr:
        # The value of an option is shown in mitmweb, so one that was set elsewhere stays out of it.
        return str, lambda _value: "", None
    if getattr(kind, "__origin__", None) is Literal:
        return str, lambda value: value, list(kind.__args__)  # type: ignore[union-attr]
    return Sequence[str], list, None


def declare_options(loader: OptionLoader, defaults: Settings) -> None:
    """Declare each field as the mitmproxy option ``qwen_<field>``, at its value in ``defaults``."""
    for field, info in Settings.model_fields.items():
        typespec, convert, choices = _mitmproxy_type(info)
        default = convert(getattr(defaults, field))
        loader.add_option(
            f"{OPTION_PREFIX}{field}", typespec, default, info.description or "", choices
        )


def from_options(options: Any) -> Source:
    """What mitmproxy's options say; an empty secret leaves the other sources their say."""
    values = {field: getattr(options, f"{OPTION_PREFIX}{field}") for field in Settings.model_fields}
    values = {field: value for field, value in values.items() if value != ""}
    return Source("mitmproxy options", values)


__all__ = [
    "OPTION_PREFIX",
    "Origin",
    "Settings",
    "SettingsError",
    "Source",
    "ambient_sources",
    "config_home",
    "declare_options",
    "env_name",
    "from_environment",
    "from_json",
    "from_options",
    "merge",
    "unknown_keys",
]
