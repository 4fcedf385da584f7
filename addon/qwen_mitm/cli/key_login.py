"""An API key finds its home: the one host of its vendor that accepts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account, AccountFile
from qwen_mitm.accounts.shown import document
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.provider_hosts import NO_KEY, Vendor, candidates, recognise, vendor_at
from qwen_mitm.providers import PROFILES, Wire, profile_for

from .key_file import read_key_file
from .outside import Outside
from .probe import Finding, Prober, Target
from .speech import Complaint, Speech
from .stored import added, free_name, how_to_enable, stored_accounts, without_cooldowns


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLogin:
    """What was said on the command line."""

    vendor: Vendor | None = None
    name: str | None = None
    base_url: str | None = None
    key_file: str | None = None
    force: bool = False
    wire: Wire | None = None


def log_in_with_key(outside: Outside, speech: Speech, asked: KeyLogin) -> None:
    """Store a key with the base URL that accepts it.

    Raises:
        Complaint: there is no key, no vendor, or no host that accepts it.
    """
    store = outside.store()
    accounts = stored_accounts(store)
    if any(account.name == asked.name and not account.is_api_key for account in accounts):
        raise _is_a_login(asked.name)
    key = _key(speech, asked)
    vendors = (asked.vendor,) if asked.vendor else _vendors(outside, speech, key, asked)
    for vendor in vendors:
        _check(key, vendor, asked)
    base_url = _base_url(speech, vendors[0], asked)
    places = [(vendor, url) for vendor in vendors for url in candidates(vendor, base_url)]
    _warn(outside, speech, places, accounts)
    findings = _try(outside, speech, key, places)
    home = next((finding for finding in findings if finding.is_home), None)
    if home is None and not (asked.force and (len(places) == 1 or vendors[0].is_own)):
        raise _homeless(places, findings, asked)
    vendor, base_url = places[findings.index(home)] if home else places[0]
    _check_wire(vendor, asked)
    account = _keep(outside, store, vendor, key, base_url, asked)
    speech.say(f"The account is {account.name!r} in {store.path}, at {_shown(base_url)}.")
    if account.disabled:
        speech.note(how_to_enable(account), "yellow")
    if home is None or home.outcome == "limited":
        speech.note("It cannot be used yet, as said above.", "yellow")
    told = document(account, outside.now(), outside.settings().base_url)
    speech.answer({"account": told, "tests": [finding.document() for finding in findings]})


def _key(speech: Speech, asked: KeyLogin) -> SecretStr:
    is_own = asked.vendor is not None and asked.vendor.is_own
    if asked.key_file is not None:
        text = read_key_file(asked.key_file)
    elif speech.can_ask():
        hint = " (Enter for none)" if is_own else ""
        text = typer.prompt(
            f"API key{hint}", hide_input=True, default="", show_default=False, err=True
        )
    elif is_own:
        text = ""
    else:
        raise Complaint(
            "There is nobody to ask for the key. Give it with --key-file FILE, or with "
            "--key-file - on standard input."
        )
    text = text.strip()
    if not text and is_own:
        return SecretStr(NO_KEY)
    if not text:
        raise Complaint("There is no key.")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Complaint("That is no API key: it has spaces, line breaks or special characters.")
    return SecretStr(text)


def _vendors(
    outside: Outside, speech: Speech, key: SecretStr, asked: KeyLogin
) -> tuple[Vendor, ...]:
    """Whose key it is, by its beginning, by the address, or by asking."""
    names = recognise(key.get_secret_value())
    found = tuple(outside.vendors[name] for name in names)
    if asked.base_url is not None:
        check_address(asked.base_url)
        there = vendor_at(asked.base_url, outside.vendors)
        # A port tells what a server may be, and not whose it is.
        if found and (there is None or there.is_own):
            raise Complaint(
                f"That looks like a key of {_titles(found)}, and {_shown(asked.base_url)} is none "
                "of its hosts. If you trust that host with it, say what it is with --provider."
            )
        return (there or outside.vendors["generic"],)
    # Many vendors' keys begin as those of Model Studio do.
    if found and (names != ("dashscope",) or not speech.can_ask()):
        speech.note(f"That is a key of {_titles(found)}.")
        return found
    if not speech.can_ask() or asked.key_file == "-":
        raise Complaint(
            "The key does not tell whose it is. Say --provider, one of: "
            f"{', '.join(outside.vendors)}."
        )
    return (_choice(outside, speech, found),)


def _titles(vendors: Sequence[Vendor]) -> str:
    return " or ".join(vendor.title for vendor in vendors)


def _choice(outside: Outside, speech: Speech, likely: Sequence[Vendor]) -> Vendor:
    vendors = list(outside.vendors.values())
    speech.note("Whose key is it? It is sent to that vendor's hosts only.")
    for number, vendor in enumerate(vendors, 1):
        speech.note(f"  {number:2} {vendor.title} ({vendor.provider})")
    default = vendors.index(likely[0]) + 1 if likely else None
    while True:
        chosen: int = typer.prompt("Number", type=int, default=default, err=True)
        if 1 <= chosen <= len(vendors):
            return vendors[chosen - 1]
        speech.note(f"A number from 1 to {len(vendors)}.")


def _check(key: SecretStr, vendor: Vendor, asked: KeyLogin) -> None:
    """A key is never shown to somebody else by mistake.

    Raises:
        Complaint: it is one of another vendor, or the address is.
    """
    if asked.base_url is not None:
        check_address(asked.base_url)
    if asked.vendor is not None:
        _check_wire(asked.vendor, asked)
    if asked.force or vendor.is_own:
        return
    names = recognise(key.get_secret_value())
    # Other vendors' keys also look like those of Model Studio.
    if names and names != ("dashscope",) and vendor.provider not in names:
        raise Complaint(
            f"That looks like a key of {' or '.join(names)}, and not of {vendor.provider}."
        )
    there = vendor_at(asked.base_url) if asked.base_url else None
    if there is not None and not there.is_own and there.provider != vendor.provider:
        raise Complaint(
            f"{_shown(asked.base_url or '')} is a host of {there.title}, and not of {vendor.title}."
        )


def _check_wire(vendor: Vendor, asked: KeyLogin) -> None:
    if asked.wire == "responses" and PROFILES[vendor.provider].responses_models is None:
        raise Complaint(
            f"{vendor.title} has no Responses endpoint. Leave --wire out: requests are translated."
        )


def check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Complaint("--base-url must be an http or https URL.")


def _base_url(speech: Speech, vendor: Vendor, asked: KeyLogin) -> str | None:
    if asked.base_url is not None or not vendor.is_own:
        return asked.base_url
    if not speech.can_ask() or asked.key_file == "-":
        example = vendor.local_url or "https://llm.example.org/v1"
        raise Complaint(f"Say where it is: --base-url {example}")
    base_url: str = typer.prompt("Base URL", default=vendor.local_url or None, err=True)
    check_address(base_url)
    return base_url


def _warn(
    outside: Outside,
    speech: Speech,
    places: Sequence[tuple[Vendor, str]],
    accounts: tuple[Account, ...],
) -> None:
    default_url = outside.settings().base_url
    known = {profile_for(a.endpoint(default_url), a.provider).name for a in accounts}
    terms = {vendor.terms for vendor, _ in places if vendor.provider not in known}
    for text in sorted(terms - {""}):
        speech.note(text, "yellow")
    first = urlsplit(places[0][1])
    if first.scheme == "http" and first.hostname not in ("localhost", "127.0.0.1", "::1"):
        speech.note("http is not encrypted: whoever is on the way can read the key.", "yellow")


def _try(
    outside: Outside, speech: Speech, key: SecretStr, places: Sequence[tuple[Vendor, str]]
) -> list[Finding]:
    """What each host said, up to the first that accepts the key."""
    findings = []
    for vendor, base_url in places:
        target = Target(base_url, key, profile_for(base_url, vendor.provider), vendor)
        with speech.doing(f"Trying {_shown(base_url)}"), outside.client(base_url) as client:
            finding = Prober(client, target, outside.now).key()
        findings.append(finding)
        words = "accepts the key" if finding.outcome == "works" else finding.sentence
        speech.note(f"  {_shown(base_url)} {words}")
        if finding.is_home:
            break
    return findings


def _homeless(
    places: Sequence[tuple[Vendor, str]], findings: list[Finding], asked: KeyLogin
) -> Complaint:
    vendors = list(dict.fromkeys(vendor for vendor, _ in places))
    where = "the server" if vendors[0].is_own else f"no host of {_titles(vendors)}"
    refused = all(finding.outcome == "refused" for finding in findings)
    if vendors[0].is_own:
        what = f"{where} does not accept that key" if refused else f"{where} could not be asked"
    else:
        what = f"{where} accepts that key" if refused else f"{where} accepted that key now"
    advice = (
        "Say which host it is for with --base-url."
        if asked.force
        else "Is it complete, and of this plan? With --force and --base-url it is stored unseen."
    )
    return Complaint(f"Nothing was stored: {what}. {advice}")


def _keep(
    outside: Outside,
    store: AccountStore,
    vendor: Vendor,
    key: SecretStr,
    base_url: str,
    asked: KeyLogin,
) -> Account:
    name = asked.name
    fields = {"api_key": key, "base_url": base_url, "provider": vendor.provider}
    if asked.wire is not None:
        fields["wire"] = asked.wire
    kept: Account | None = None

    def change(file: AccountFile) -> AccountFile:
        nonlocal kept
        old = file.find(name) if name else _same(file, key, base_url)
        if old is None:
            kept = Account.model_validate(
                {
                    **fields,
                    "name": name or free_name(file, vendor.provider),
                    "kind": "api_key",
                    "added_at": outside.now(),
                }
            )
            return added(file, kept)
        if not old.is_api_key:
            raise _is_a_login(name)
        kept = without_cooldowns(old).model_copy(update=fields)
        return file.replace(kept)

    store.update(change)
    assert kept is not None
    return kept


def _same(file: AccountFile, key: SecretStr, base_url: str) -> Account | None:
    for account in file.accounts:
        if account.is_api_key and (account.api_key, account.base_url) == (key, base_url):
            return account
    return None


def _is_a_login(name: str | None) -> Complaint:
    return Complaint(f"The account {name!r} is an OAuth login. Give the key another --name.")


def _shown(url: str) -> str:
    """Without a password in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
