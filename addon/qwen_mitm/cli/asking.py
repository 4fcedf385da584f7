"""A real request with an account, whatever kind it is of."""

from __future__ import annotations

from qwen_mitm.accounts.model import Account

from .outside import Outside
from .probe import Finding, Prober, Target
from .web_chat import ask_web_chat


def ask(
    outside: Outside, account: Account, model: str | None, *, refreshed: bool = False
) -> Finding:
    """A real request with the account."""
    if account.is_web_chat:
        return ask_web_chat(outside, account, model)
    target = Target.of(account, outside.settings().base_url, refreshed=refreshed)
    with outside.client(target.base_url) as client:
        return Prober(client, target, outside.now).completion(model)
