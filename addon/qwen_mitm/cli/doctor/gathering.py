"""Finds out everything that the checks judge. All contact with the world is here and below."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

from mitmproxy import version as mitmproxy_version

from qwen_mitm import __version__, failover_layer
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.store import AccountStore, accounts_path, embedded_accounts
from qwen_mitm.cli.asking import ask
from qwen_mitm.cli.outside import Outside
from qwen_mitm.cli.probe import Finding
from qwen_mitm.cli.speech import Complaint, Speech
from qwen_mitm.cli.stored import renewed
from qwen_mitm.errors import BridgeError
from qwen_mitm.oauth.errors import OAuthError
from qwen_mitm.proxy_variables import variable
from qwen_mitm.settings import (
    Settings,
    SettingsError,
    Source,
    config_home,
    from_environment,
    from_json,
    merge,
)

from . import client_files, connections, programs
from .authority import CERTIFICATE, read_authority, read_bundles
from .connections import Place
from .facts import (
    PROXY_VARIABLES,
    AccountsFile,
    Client,
    Facts,
    Installation,
    Proxy,
    Tunnel,
)
from .names import unknown_names

_DEFAULT_CONFDIR = Path("~/.mitmproxy")


def gather(outside: Outside, speech: Speech, place: Place, *, probe: bool) -> Facts:
    env = os.environ
    files, problem = _config_files(env)
    settings, settings_problem = _settings(files, env)
    with speech.doing("Asking the proxy"):
        proxy = connections.ask_proxy(place)
        confdir = Path(proxy.status.confdir) if proxy.status else _DEFAULT_CONFDIR.expanduser()
        tunnels, upgrade = _through(place, proxy, settings, confdir)
    accounts_file, accounts = _accounts(settings, env)
    with speech.doing("Asking the programs"):
        opencode, codex = _clients(env)
    return Facts(
        installation=_installation(),
        proxy=proxy,
        authority=read_authority(confdir),
        settings=settings,
        settings_problem=problem or settings_problem,
        unknown=tuple(unknown_names(env, files)),
        accounts_file=accounts_file,
        accounts=accounts,
        now_ms=outside.now(),
        env={name: variable(env, name) for name in PROXY_VARIABLES},
        contradictions=_contradictions(env),
        bundles=read_bundles(env, confdir),
        tunnels=tunnels,
        upgrade=upgrade,
        probes=_probes(outside, speech, accounts_file, accounts) if probe else None,
        opencode=opencode,
        codex=codex,
    )


def _installation() -> Installation:
    return Installation(
        python=sys.version_info[:3],
        version=__version__,
        mitmproxy=mitmproxy_version.VERSION,
        missing=tuple(failover_layer.missing_api()),
    )


# Settings and accounts ---------------------------------------------------------------------------


def _config_files(env: Mapping[str, str]) -> tuple[list[Source], str]:
    """The files that can be read, and what is wrong with the first that cannot."""
    sources, problem = [], ""
    for path in (config_home(env) / "qwen.json", Path.cwd() / ".opencode" / "qwen.json"):
        try:
            sources.append(from_json(path))
        except SettingsError as error:
            problem = problem or str(error)
    return sources, problem


def _settings(files: list[Source], env: Mapping[str, str]) -> tuple[Settings | None, str]:
    try:
        return merge([*files, from_environment(env)]), ""
    except SettingsError as error:
        return None, str(error)


def _accounts(
    settings: Settings | None, env: Mapping[str, str]
) -> tuple[AccountsFile | None, tuple[Account, ...]]:
    settings = settings or Settings()
    embedded = embedded_accounts(env, settings)
    if embedded:
        return None, embedded
    try:
        store = AccountStore(accounts_path(settings, env))
    except RuntimeError:
        problem = f"The home folder of {settings.accounts_file} is not known here."
        return AccountsFile(settings.accounts_file, True, False, problem), ()
    path = str(store.path)
    try:
        store.path.stat()
        accounts = store.accounts()
    except FileNotFoundError:
        return AccountsFile(path, False, False), ()
    except OSError as error:
        return AccountsFile(path, True, False, f"{path} cannot be read: {error.strerror}."), ()
    except BridgeError as error:
        return AccountsFile(path, True, store.too_open(), error.message), ()
    return AccountsFile(path, True, store.too_open()), accounts


def _probes(
    outside: Outside,
    speech: Speech,
    file: AccountsFile | None,
    accounts: tuple[Account, ...],
) -> dict[str, Finding | str]:
    found: dict[str, Finding | str] = {}
    for account in accounts:
        if account.disabled or account.needs_login:
            continue
        with speech.doing(f"Asking with {account.name}"):
            found[account.name] = _probed(outside, file, account)
    return found


def _probed(outside: Outside, file: AccountsFile | None, account: Account) -> Finding | str:
    try:
        if file is not None and not account.is_api_key:
            account = renewed(outside, AccountStore(Path(file.path)), account)
        return ask(outside, account, None)
    except (OAuthError, BridgeError, Complaint, SettingsError) as error:
        return str(error)


# The proxy ---------------------------------------------------------------------------------------


def _through(
    place: Place, proxy: Proxy, settings: Settings | None, confdir: Path
) -> tuple[dict[str, Tunnel], int | None]:
    status = proxy.status
    hosts = [host for host in status.hosts if host.startswith("https://")] if status else []
    if status is None or not hosts or all(m.startswith("reverse:") for m in status.modes):
        return {}, None
    host, _, port = hosts[0].removeprefix("https://").rpartition(":")
    tunnels = {
        "python": connections.try_python(place, host, int(port)),
        "node": programs.try_node(place, host, int(port)),
        "curl": programs.try_curl(place),
    }
    try:
        context = ssl.create_default_context(cafile=confdir / CERTIFICATE)
    except OSError as error:
        return tunnels | {"disk": Tunnel("untrusted", str(error))}, None
    tunnels["disk"] = connections.try_tunnel(place, host, int(port), context)
    return tunnels, connections.try_upgrade(place, host, int(port), context, settings)


# The environment ---------------------------------------------------------------------------------


def _contradictions(env: Mapping[str, str]) -> tuple[str, ...]:
    if platform.system() == "Windows":
        # Names have no case there.
        return ()
    return tuple(
        name
        for name in PROXY_VARIABLES
        if name in env and name.lower() in env and env[name] != env[name.lower()]
    )


def _clients(env: Mapping[str, str]) -> tuple[Client, Client]:
    home = Path.home()
    stanzas, problems = client_files.opencode_stanzas(env, home, Path.cwd())
    path = programs.find("opencode")
    version = programs.version_of(path) if path else None
    opencode = Client(path, version, stanzas, problems)
    stanzas, problems = client_files.codex_stanzas(env, home)
    path = programs.find("codex")
    version = programs.version_of(path) if path else None
    return opencode, Client(path, version, stanzas, problems)
