"""Which models a client is told of: what the provider of the first account has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.shown import provider_name
from qwen_mitm.accounts.store import AccountStore, embedded_accounts
from qwen_mitm.clients.models import USUAL_PROVIDER, Model, models_for
from qwen_mitm.clients.provider import Provider
from qwen_mitm.settings import Origin, Settings

from .stored import stored_accounts

UNKNOWN_MODELS = (
    "The first account is at a server of your own, and which models it has only you know: "
    "name one with --model."
)


def accounts_in_use(
    settings: Settings, store: AccountStore, env: Mapping[str, str]
) -> tuple[Account, ...]:
    """Those that a proxy with these settings would ask."""
    accounts = embedded_accounts(env, settings) or stored_accounts(store)
    return tuple(account for account in accounts if not account.disabled)


def offered(
    settings: Settings, accounts: Sequence[Account], wanted: Sequence[str] = ()
) -> tuple[Model, ...]:
    """The models, the default first; none: nobody knows, and the person did not say."""
    name = USUAL_PROVIDER
    if accounts:
        first = accounts[0]
        name = provider_name(first, first.endpoint(settings.base_url))
    return models_for(name, tuple(wanted))


def provider_of(settings: Settings, base_url: str, models: Sequence[Model]) -> Provider:
    has_key = bool(settings.local_key.get_secret_value())
    return Provider(base_url=base_url, models=models, has_local_key=has_key)


def claimed_base_url(settings: Settings) -> str:
    """The base URL of requests that are to be rewritten."""
    return base_url_of(settings.hosts[0])


def base_url_of(host: str) -> str:
    """As qwen_hosts has it: a name, with a port, or a URL."""
    origin = Origin.parse(host)
    usual = {"https": 443, "http": 80}[origin.scheme]
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == usual else f":{origin.port}"
    return f"{origin.scheme}://{name}{port}/v1"
