"""Each check on facts that nobody has to plant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.verdicts import Verdict
from qwen_mitm.cli.doctor.client_checks import TESTED
from qwen_mitm.cli.doctor.examination import examine
from qwen_mitm.cli.doctor.facts import (
    AccountsFile,
    Authority,
    Bundle,
    Client,
    Facts,
    Installation,
    Proxy,
    Stanza,
    Tunnel,
    Unknown,
)
from qwen_mitm.cli.doctor.report import lines, summary
from qwen_mitm.cli.probe import Finding
from qwen_mitm.settings import Settings
from qwen_mitm.status import Skew, Status

NOW = 1_800_000_000_000
STATUS = Status(
    version="1.0.0",
    mitmproxy="12.2.3",
    python="3.13.0",
    pid=1,
    modes=("regular",),
    listen=("127.0.0.1", "::1"),
    confdir="/ca",
    hosts=("https://portal.qwen.ai:443",),
    accounts_file="/accounts.json",
    allow_remote=False,
    needs_local_key=False,
    skew=Skew(seconds=1.0, host="qwen.test"),
)
KEY = Account(name="plan", kind="api_key", api_key=SecretStr("fake-key"), base_url="https://a.test")
HERE = Bundle("/ca/bundle.pem", is_readable=True, has_authority=True)
OTHERS = Bundle("/others.pem", is_readable=True, has_authority=False)
OPENCODE = Stanza("/opencode.json", "qwen", "https://portal.qwen.ai/v1", "@ai-sdk/openai")
CODEX = Stanza("/config.toml", "qwen", "https://portal.qwen.ai/v1", "responses")
WELL = Facts(
    installation=Installation((3, 13, 0), "1.0.0", "12.2.3"),
    proxy=Proxy("127.0.0.1", 8080, "ours", status=STATUS),
    authority=Authority("/ca/cert.pem", begins=0, ends=4e9, key_path="/ca/key.pem"),
    settings=Settings(),
    settings_problem="",
    unknown=(),
    accounts_file=AccountsFile("/accounts.json", exists=True, is_open=False),
    accounts=(KEY,),
    now_ms=NOW,
    env={"HTTPS_PROXY": "http://localhost:8080", "NO_PROXY": "localhost"},
    bundles={"SSL_CERT_FILE": HERE},
    tunnels={name: Tunnel("trusted") for name in ("disk", "python", "node", "curl")},
    upgrade=426,
    opencode=Client("/bin/opencode", TESTED["opencode"], (OPENCODE,)),
    codex=Client("/bin/codex", TESTED["codex"], (CODEX,)),
)


def changed(part: str, **fields: Any) -> Facts:
    return replace(WELL, **{part: replace(getattr(WELL, part), **fields)})


def with_status(**fields: Any) -> Facts:
    return changed("proxy", status=STATUS.model_copy(update=fields))


def with_account(**fields: Any) -> Facts:
    return replace(WELL, accounts=(KEY.model_copy(update=fields),))


def tunnelled(**outcomes: Tunnel) -> Facts:
    return replace(WELL, tunnels={**WELL.tunnels, **outcomes})


def probed(finding: Finding | str) -> Facts:
    return replace(WELL, probes={"plan": finding})


def a_finding(outcome: Any, **fields: Any) -> Finding:
    found = Finding("https://a.test", outcome, "words", 0.5, Verdict("ok"), 200, "m")
    return replace(found, **fields)


def ended(facts: Facts) -> dict[str, str]:
    return {c.id: c.status for c in examine(facts) if c.status != "ok"}


UNTRUSTED = Tunnel("untrusted", "self-signed certificate")
LIMIT = Cooldown(until=NOW + 60_000, reason="burst", since=NOW, message="slow down")
REFUSED = Cooldown(until=None, reason="not_entitled", since=NOW)
LOGIN = Account(name="plan", refresh_token=SecretStr("fake"), access_token=SecretStr("fake"))

CASES: list[tuple[str, Facts, dict[str, str]]] = [
    ("well", WELL, {}),
    ("old python", changed("installation", python=(3, 11, 9)), {"python": "fault"}),
    ("new python", changed("installation", python=(3, 15, 0)), {"python": "warning"}),
    ("other mitmproxy", changed("installation", mitmproxy="13.0.0"), {"mitmproxy": "warning"}),
    ("lacking", changed("installation", missing=("HttpStream.x",)), {"mitmproxy": "fault"}),
    ("settings", replace(WELL, settings=None, settings_problem="bad"), {"settings": "fault"}),
    (
        "remote without a key",
        replace(WELL, settings=Settings(allow_remote=True)),
        {"settings": "fault"},
    ),
    ("unknown", replace(WELL, unknown=(Unknown("X", "y", None),)), {"settings.unknown": "warning"}),
    ("older proxy", with_status(version="0.9.0"), {"proxy": "warning"}),
    ("open", with_status(listen=("0.0.0.0",)), {"listening": "fault"}),
    ("opened", with_status(listen=("::",), allow_remote=True), {"listening": "warning"}),
    (
        "other hosts",
        with_status(hosts=("https://other.test:443", *STATUS.hosts)),
        {"hosts": "warning"},
    ),
    ("no upgrade", replace(WELL, upgrade=None), {"websocket": "not_checked"}),
    ("websocket", replace(WELL, upgrade=101), {}),
    ("local key", replace(WELL, upgrade=401), {"websocket": "fault"}),
    ("upgrade", replace(WELL, upgrade=500), {"websocket": "fault"}),
    ("no variable", replace(WELL, env={}), {"env.proxy": "warning"}),
    (
        "another port",
        replace(WELL, env={"HTTPS_PROXY": "http://127.0.0.1:1"}),
        {"env.proxy": "warning"},
    ),
    (
        "another machine",
        replace(WELL, env={"HTTPS_PROXY": "http://u:fake-password@10.0.0.1:8080"}),
        {"env.proxy": "warning"},
    ),
    ("an unreadable one", replace(WELL, env={"HTTPS_PROXY": "x:y"}), {"env.proxy": "warning"}),
    (
        "HTTP_PROXY",
        replace(WELL, env={"HTTP_PROXY": "http://127.0.0.1:8080"}),
        {"env.proxy": "fault"},
    ),
    ("ALL_PROXY", replace(WELL, env={"ALL_PROXY": "socks5://a:1"}), {"env.proxy": "warning"}),
    ("two spellings", replace(WELL, contradictions=("NO_PROXY",)), {"env.proxy": "warning"}),
    (
        "NO_PROXY",
        replace(WELL, env={**WELL.env, "NO_PROXY": "*.qwen.ai"}),
        {"env.no_proxy": "fault"},
    ),
    ("bad CA", changed("authority", problem="no PEM"), {"ca": "fault"}),
    ("open key", changed("authority", key_is_open=True), {"ca.key": "warning"}),
    ("other key", changed("authority", key_matches=False), {"ca.key": "fault"}),
    ("future CA", changed("authority", begins=3e9), {"ca": "fault"}),
    ("other CA", tunnelled(disk=UNTRUSTED), {"ca.in_use": "fault"}),
    ("no tunnel", tunnelled(disk=Tunnel("failed", "502")), {"ca.in_use": "fault"}),
    ("no node", tunnelled(node=Tunnel("absent")), {"trust.node": "not_checked"}),
    ("curl", tunnelled(curl=UNTRUSTED), {"trust.curl": "warning"}),
    ("curl failed", tunnelled(curl=Tunnel("failed", "x")), {"trust.curl": "not_checked"}),
    ("node by default", tunnelled(node=UNTRUSTED), {"trust.node": "warning"}),
    ("python", tunnelled(python=UNTRUSTED), {"trust.python": "fault"}),
    (
        "python elsewhere",
        replace(tunnelled(python=UNTRUSTED), env={}),
        {"env.proxy": "warning", "trust.python": "warning"},
    ),
    (
        "python with the CA for another",
        replace(tunnelled(python=UNTRUSTED), bundles={"CODEX_CA_CERTIFICATE": HERE}),
        {"trust.python": "warning", "trust.opencode": "fault"},
    ),
    (
        "no client told",
        replace(WELL, bundles={"SSL_CERT_FILE": OTHERS}),
        {"trust.opencode": "fault", "trust.codex": "fault"},
    ),
    ("no file", changed("accounts_file", exists=False), {"accounts.file": "fault"}),
    ("bad file", changed("accounts_file", problem="bad"), {"accounts.file": "fault"}),
    ("open file", changed("accounts_file", is_open=True), {"accounts.file": "warning"}),
    ("empty file", replace(WELL, accounts=()), {"accounts.file": "fault"}),
    ("other file", with_status(accounts_file="/x.json"), {"accounts.proxy": "warning"}),
    ("embedded", replace(with_status(accounts_file=None), accounts_file=None), {}),
    ("disabled", with_account(disabled=True), {"account:plan": "warning", "accounts": "fault"}),
    (
        "needs login",
        replace(WELL, accounts=(LOGIN.model_copy(update={"needs_login": True}), KEY)),
        {"account:plan": "warning"},
    ),
    ("limited", with_account(cooldowns={"*": LIMIT}), {"account:plan": "warning"}),
    ("limited for a model", with_account(cooldowns={"m": LIMIT}), {"account:plan": "warning"}),
    (
        "refused",
        with_account(cooldowns={"*": REFUSED}),
        {"account:plan": "warning", "accounts": "fault"},
    ),
    ("free tier", replace(WELL, accounts=(LOGIN,)), {"account:plan": "warning"}),
    ("answers", probed(a_finding("works")), {}),
    ("limits", probed(a_finding("limited")), {"account:plan": "warning"}),
    (
        "says nothing",
        probed(a_finding("silent")),
        {"account:plan": "warning", "accounts": "fault"},
    ),
    ("refuses", probed(a_finding("refused")), {"account:plan": "warning", "accounts": "fault"}),
    ("cannot be asked", probed("why"), {"account:plan": "warning", "accounts": "fault"}),
    ("no date", with_status(skew=None), {"clock": "not_checked"}),
    ("slow clock", with_status(skew=Skew(seconds=-90, host="a")), {"clock": "warning"}),
    ("wrong clock", with_status(skew=Skew(seconds=900, host="a")), {"clock": "fault"}),
    ("probed clock", probed(a_finding("works", clock_ahead_s=900.0)), {"clock": "fault"}),
    ("no opencode", replace(WELL, opencode=Client(None)), {"opencode": "not_checked"}),
    ("no version", changed("opencode", version=None), {"opencode": "warning"}),
    ("old", changed("codex", version="0.20.0"), {"codex": "warning"}),
    ("new", changed("codex", version="9.0.0-beta.1"), {}),
    ("broken", changed("codex", stanzas=(), problems=("x",)), {"codex.config": "fault"}),
    ("none", changed("opencode", stanzas=()), {"opencode.config": "warning"}),
    (
        "none needed",
        replace(changed("opencode", stanzas=()), env={}),
        {"opencode.config": "not_checked", "env.proxy": "warning"},
    ),
    (
        "others",
        changed("opencode", stanzas=(replace(OPENCODE, base_url="https://other.test/v1"),)),
        {"opencode.config": "warning"},
    ),
    (
        "chat",
        changed("opencode", stanzas=(replace(OPENCODE, speaks="@ai-sdk/openai-compatible"),)),
        {"opencode.config": "fault"},
    ),
    ("wire", changed("codex", stanzas=(replace(CODEX, speaks="chat"),)), {"codex.config": "fault"}),
    (
        "not chosen",
        changed("codex", stanzas=(replace(CODEX, is_chosen=False),)),
        {"codex.config": "warning"},
    ),
    (
        "no key",
        changed("codex", stanzas=(replace(CODEX, key_variable="K"),)),
        {"codex.config": "warning"},
    ),
]

#: What is not checked when another check ends badly.
DEPEND = {
    "ca": ("ca.in_use", "trust.opencode", "trust.codex"),
    "ca.in_use": ("trust.opencode", "trust.codex"),
}


@pytest.mark.parametrize(("facts", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_fact_is_judged(facts: Facts, expected: dict[str, str]) -> None:
    found = ended(facts)
    depend = {name for cause in expected for name in DEPEND.get(cause, ())}
    assert {n: s for n, s in found.items() if n not in depend or s != "not_checked"} == expected


@pytest.mark.parametrize("answer", ["refused", "silent", "other", "password"])
def test_without_a_proxy_of_ours_what_depends_on_it_is_not_checked(answer: Any) -> None:
    facts = replace(WELL, proxy=Proxy("127.0.0.1", 8080, answer), tunnels={}, upgrade=None)
    found = ended(facts)
    assert found.pop("proxy") == "fault"
    assert set(found.values()) == {"not_checked"}


def test_who_starts_the_proxy_with_each_run_is_not_told_of_a_fault() -> None:
    for answer, who in (("refused", "nothing answers"), ("other", "another program answers")):
        facts = replace(
            WELL,
            proxy=Proxy("127.0.0.1", 8080, answer, is_named=False),  # type: ignore[arg-type]
            authority=Authority("/ca/cert.pem", is_missing=answer == "refused"),
            env={},
            tunnels={},
            upgrade=None,
        )
        proxy, *_ = [check for check in examine(facts) if check.id == "proxy"]
        assert proxy.status == "warning"
        assert who in proxy.message
        assert "qwen-mitm run -- qwen-mitm doctor" in proxy.advice
        assert "fault" not in {check.status for check in examine(facts) if check.id != "ca"}
    # A proxy that somebody has named is another matter.
    named = replace(WELL, proxy=Proxy("127.0.0.1", 8080, "refused"))
    assert ended(named)["proxy"] == "fault"


def test_an_authority_that_the_first_start_makes_is_no_fault_before_it() -> None:
    missing = Authority("/ca/cert.pem", is_missing=True)
    facts = replace(WELL, proxy=Proxy("127.0.0.1", 8080, "refused"), authority=missing)
    assert ended(facts)["ca"] == "not_checked"
    assert ended(replace(WELL, authority=missing))["ca"] == "fault"


def test_every_warning_and_fault_says_what_to_do_in_one_line() -> None:
    for _, facts, _ in CASES:
        for check in examine(facts):
            assert check.message
            assert "\n" not in check.message + check.advice
            assert check.advice or check.status in ("ok", "not_checked")


def test_no_password_of_a_proxy_is_said() -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        facts = replace(WELL, env={name: "http://user:fake-password@10.0.0.1:3128"})
        assert "fake-password" not in str(examine(facts))
        assert "10.0.0.1:3128" in str(examine(facts))


def test_a_reverse_proxy_is_reached_by_its_own_address() -> None:
    facts = with_status(modes=("reverse:https://portal.qwen.ai",))
    stanza = replace(OPENCODE, base_url="http://127.0.0.1:8080/v1")
    facts = replace(facts, opencode=replace(WELL.opencode, stanzas=(stanza,)))
    assert ended(facts) == {"ca": "not_checked", "env.proxy": "not_checked"}


def test_the_worker_that_answered_is_named() -> None:
    (found,) = (c for c in examine(with_status(pid=7, worker=2, workers=4)) if c.id == "proxy")
    assert "worker 2 of 4, process 7" in found.message


def test_what_a_person_reads_has_each_advice_below_its_finding() -> None:
    found = examine(replace(WELL, upgrade=500))
    printed = [line.plain for line in lines(found)]
    at = next(i for i, line in enumerate(printed) if line.startswith("fault"))
    assert "websocket" in printed[at]
    assert "→ Say supports_websockets" in printed[at + 1]
    assert summary(found) == "1 fault."
    assert summary(examine(WELL)) == "All is well."
    assert summary(examine(replace(WELL, env={}))) == "It should work; 1 warning."
