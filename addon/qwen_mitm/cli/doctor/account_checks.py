"""The accounts and the clock. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from qwen_mitm.accounts.model import ALL_MODELS, PORTAL_BASE_URL, Account
from qwen_mitm.accounts.shown import in_words, state
from qwen_mitm.cli.probe import Finding
from qwen_mitm.cli.speech import clean
from qwen_mitm.cli.table import until

from .check import Check, fault, not_checked, ok, warning
from .facts import Facts

#: Certificates and the times in errors need a clock that is about right.
NOTICEABLE_S, HARMFUL_S = 60, 300
_LOG_IN = "qwen-mitm login adds one."
#: Limits that end by themselves.
_PASSING = frozenset({"burst", "window", "concurrency", "transient", "model"})


def checks(facts: Facts) -> Iterator[Check]:
    yield _file(facts)
    yield from _same_file(facts)
    usable = 0
    for account in facts.accounts:
        check, is_usable = _account(facts, account)
        yield check
        usable += is_usable
    if facts.accounts:
        words = f"{usable} of {len(facts.accounts)} accounts can be used."
        yield ok("accounts", words) if usable else fault("accounts", words, _LOG_IN)
    yield _clock(facts)


def _file(facts: Facts) -> Check:
    file = facts.accounts_file
    if file is None:
        return ok("accounts.file", "QWEN_API_KEY and QWEN_API_BASE_URL are the one account.")
    if not file.exists:
        return fault("accounts.file", f"There is no account: {file.path} does not exist.", _LOG_IN)
    if file.problem:
        return fault(
            "accounts.file", file.problem, "Until it is mended, requests are answered with this."
        )
    if not facts.accounts:
        return fault("accounts.file", f"There is no account in {file.path}.", _LOG_IN)
    if file.is_open:
        return warning(
            "accounts.file",
            f"Others on this machine can read {file.path}, which holds keys and tokens.",
            f"chmod 600 {shlex.quote(file.path)}",
        )
    return ok("accounts.file", f"{file.path} can be read.")


def _same_file(facts: Facts) -> Iterator[Check]:
    if facts.status is None:
        return
    here = facts.accounts_file.path if facts.accounts_file else None
    there = facts.status.accounts_file
    if here != there:
        yield warning(
            "accounts.proxy",
            f"The proxy uses {there or 'the account of its environment'}, not "
            f"{here or 'the account of the environment here'}.",
            "Set QWEN_ACCOUNTS_FILE (or QWEN_API_KEY and QWEN_API_BASE_URL) alike for both.",
        )


def _account(facts: Facts, account: Account) -> tuple[Check, bool]:
    """What is to be said of it, and whether requests can be sent with it now or soon."""
    name = f"account:{account.name}"
    shown = shlex.quote(account.name)
    what = state(account, facts.now_ms)
    if what == "disabled":
        advice = f"qwen-mitm accounts enable {shown}"
        return warning(name, f"{account.name} is disabled.", advice), False
    if what == "needs_login":
        advice = f"qwen-mitm login --provider oauth --name {shown}"
        return warning(name, f"{account.name} needs a new login.", advice), False
    if facts.probes is not None and account.name in facts.probes:
        return _probed(name, account, facts.probes[account.name])
    if what != "ok":
        return _limited(facts, name, account, what)
    models = [m for m, c in account.cooldowns.items() if m != "*" and not c.is_over(facts.now_ms)]
    if models:
        words = f"{account.name} is limited for {', '.join(models)}."
        return warning(name, words, "qwen-mitm accounts says until when."), True
    return _by_its_word(name, account, facts), True


def _limited(facts: Facts, name: str, account: Account, what: str) -> tuple[Check, bool]:
    whole = account.cooldown(ALL_MODELS, facts.now_ms)
    quoted = f" ({clean(whole.message)})" if whole and whole.message else ""
    words = f"{account.name}: {in_words(what)} until {until(whole, facts.now_ms)}{quoted}."
    advice = (
        f"It is tried again then; qwen-mitm accounts clear-cooldown {shlex.quote(account.name)}"
    )
    return warning(name, words, advice), what in _PASSING


def _by_its_word(name: str, account: Account, facts: Facts) -> Check:
    url = account.endpoint(facts.settings.base_url if facts.settings else PORTAL_BASE_URL)
    if not account.is_api_key and url == PORTAL_BASE_URL:
        return warning(
            name,
            f"{account.name} is a login for portal.qwen.ai, whose free tier ended on 2026-04-15.",
            "--probe asks whether it still works; a plan's key does: qwen-mitm login.",
        )
    return ok(name, f"{account.name} is ready, as far as the file says; --probe asks its host.")


def _probed(name: str, account: Account, found: Finding | str) -> tuple[Check, bool]:
    if isinstance(found, str):
        words = f"{account.name} could not be asked: {clean(found)}"
        return warning(name, words, "qwen-mitm accounts test says more."), False
    if found.outcome == "works":
        return ok(name, f"{account.name} {found.sentence} ({found.model})."), True
    words = clean(f"{account.name} {found.sentence} ({found.base_url})")
    match found.outcome:
        case "limited":
            return warning(name, words, "Wait, or add another account: qwen-mitm login."), True
        case "silent":
            advice = "Check the network, the base URL, and whether the host is up."
            return warning(name, words, advice), False
    return warning(name, words, "Give it a key that the host accepts: qwen-mitm login."), False


def _clock(facts: Facts) -> Check:
    skew = facts.status.skew if facts.status else None
    dates = [f for f in (facts.probes or {}).values() if isinstance(f, Finding)]
    probed = next((f.clock_ahead_s for f in dates if f.clock_ahead_s is not None), None)
    seconds = probed if probed is not None else (skew.seconds if skew else None)
    if seconds is None:
        return not_checked(
            "clock", "No answer of an upstream was seen to compare with.", "--probe asks for one."
        )
    if abs(seconds) < NOTICEABLE_S:
        return ok("clock", "The clock of this machine is right.")
    words = (
        f"The clock of this machine is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'slow'}"
    )
    advice = "Set the clock (timedatectl set-ntp true, or your system's settings)."
    if abs(seconds) < HARMFUL_S:
        return warning("clock", f"{words}.", advice)
    return fault("clock", f"{words}: certificates and reset times are judged by it.", advice)
