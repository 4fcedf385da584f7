from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.web_chat.credentials import CredentialStore
from qwen_mitm.web_chat.database import Database
from tests.web_chat.keys import jwt

from .terminal import SECRET, Terminal
from .test_login import Screen, needs_terminal

TOKEN = "umidtoken-fakesecret"
COOKIES = "acw_tc=acw-fakesecret; x-ap=ap-fakesecret"
LOGIN = ("login", "--provider", "web-chat", "--key-file", "-")


@pytest.fixture
def terminal(tmp_path: Path, simulator: SimulatorProcess) -> Terminal:
    made = Terminal(tmp_path, simulator)
    made.env |= {"XDG_STATE_HOME": str(tmp_path / "state"), "LOCALAPPDATA": str(tmp_path / "state")}
    return made


def at(terminal: Terminal) -> tuple[str, ...]:
    return ("--base-url", terminal.simulator.url)


def stored(terminal: Terminal) -> CredentialStore:
    path = Path(terminal.env["XDG_STATE_HOME"]) / "qwen-mitm" / "qwen-mitm-web-chat.sqlite"
    return CredentialStore(Database(path), time.time)


def log_in(terminal: Terminal, *words: str, token: str = TOKEN) -> None:
    done = terminal.run(*LOGIN, *at(terminal), *words, text=f"{token}\n{COOKIES}\n")
    assert done.exit_code == 0, done.stderr


def test_a_token_and_cookies_become_an_account(terminal: Terminal) -> None:
    done = terminal.run(*LOGIN, *at(terminal), text=f"{TOKEN}\r\n{COOKIES}\r\n\n")
    assert done.exit_code == 0, done.stderr
    assert "experimental" in done.stderr
    assert "terms" in done.stderr
    account = terminal.account("web-chat")
    assert account.is_web_chat
    assert account.base_url == terminal.simulator.url
    headers = stored(terminal).headers(account.credential_id)
    assert headers == {"bx-umidtoken": TOKEN, "cookie": COOKIES}
    assert "fakesecret" not in terminal.store.path.read_text()
    (asked,) = terminal.simulator.requests()
    assert (asked["method"], asked["path"]) == ("GET", "/api/models")


def test_they_can_be_in_a_file(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"\ufeffbx-umidtoken: {TOKEN}\nCookie: {COOKIES}", "utf-8")
    words = (*LOGIN[:-1], str(file), *at(terminal))
    assert terminal.run(*words).exit_code == 0
    assert stored(terminal).headers() == {"bx-umidtoken": TOKEN, "cookie": COOKIES}


def _ends_with(question: str, shown: str) -> bool:
    return shown.endswith(question)


@needs_terminal
def test_they_are_asked_for_without_being_shown(terminal: Terminal) -> None:
    command = terminal.command(*LOGIN[:3], *at(terminal))
    with Screen(command, terminal.process_env() | {"TERM": "xterm"}) as screen:
        for question, reply in (("bx-umidtoken: ", TOKEN), ("Cookies: ", COOKIES)):
            # The space is written when the terminal has stopped showing what is typed.
            screen.read_until(partial(_ends_with, question))
            screen.type(f"{reply}\n")
        assert screen.end() == 0, screen.shown
    assert not SECRET.search(screen.shown)
    assert stored(terminal).headers() == {"bx-umidtoken": TOKEN, "cookie": COOKIES}


def test_there_is_no_option_for_a_secret(terminal: Terminal) -> None:
    for option in ("--token", "--cookies", "--key"):
        assert terminal.run(*LOGIN[:3], option, "x").exit_code == 2


@pytest.mark.parametrize("text", ["", TOKEN, f"{TOKEN}\nnone", f"a b\n{COOKIES}\nmore"])
def test_what_is_no_pair_is_refused_and_not_quoted(terminal: Terminal, text: str) -> None:
    done = terminal.run(*LOGIN, *at(terminal), text=text)
    assert done.exit_code == 1
    assert terminal.accounts() == ()


def test_a_login_that_is_over_is_not_stored(terminal: Terminal) -> None:
    cookies = f"{COOKIES}; token={jwt(1_000_000_000)}"
    done = terminal.run(*LOGIN, *at(terminal), text=f"{TOKEN}\n{cookies}\n")
    assert done.exit_code == 1
    assert "log in again" in done.stderr
    assert terminal.accounts() == ()


@pytest.mark.parametrize(("behaviour", "words"), [("waf", "blocked"), ("401", "refused")])
def test_what_the_site_does_not_answer_is_not_stored(
    terminal: Terminal, behaviour: str, words: str
) -> None:
    terminal.simulator.web("script", {"models": [behaviour, behaviour]})
    done = terminal.run(*LOGIN, *at(terminal), text=f"{TOKEN}\n{COOKIES}\n")
    assert done.exit_code == 1
    assert words in done.stderr
    assert terminal.accounts() == ()
    log_in(terminal, "--force")
    assert terminal.account("web-chat").is_web_chat


def test_logging_in_again_replaces_the_credentials_of_that_account_alone(
    terminal: Terminal,
) -> None:
    log_in(terminal, "--name", "one")
    log_in(terminal, "--name", "two", token="second-fakesecret")
    log_in(terminal, "--name", "one", token="third-fakesecret")
    one, two = terminal.account("one"), terminal.account("two")
    tokens = [
        (stored(terminal).headers(account.credential_id) or {})["bx-umidtoken"]
        for account in (one, two)
    ]
    assert tokens == ["third-fakesecret", "second-fakesecret"]
    assert len(terminal.accounts()) == 2


def test_an_account_of_another_kind_keeps_its_name(terminal: Terminal) -> None:
    terminal.log_in("work")
    done = terminal.run(*LOGIN, *at(terminal), "--name", "work", text=f"{TOKEN}\n{COOKIES}\n")
    assert done.exit_code == 1
    assert "no web chat" in done.stderr


def test_the_table_says_what_it_is(terminal: Terminal) -> None:
    log_in(terminal)
    (listed,) = terminal.json("accounts")["accounts"]
    assert (listed["kind"], listed["provider"], listed["state"]) == ("web_chat", "web-chat", "ok")
    assert "web chat" in terminal.run("accounts").stdout


def test_it_can_be_tested_with_a_real_message(terminal: Terminal) -> None:
    log_in(terminal)
    assert terminal.run("accounts", "test", "web-chat").exit_code == 0
    (chat,) = terminal.simulator.chats()
    assert [turn["content"] for turn in chat["turns"]] == ["Say OK."]


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [("rate-limited-4", "limited"), ("401", "refused"), ("waf", "refused"), ("500", "silent")],
)
def test_a_test_says_what_is_wrong(terminal: Terminal, behaviour: str, outcome: str) -> None:
    log_in(terminal)
    terminal.simulator.web("script", {"new": [behaviour]})
    (result,) = terminal.json("accounts", "test", "web-chat")["tests"]
    assert result["outcome"] == outcome


def test_it_is_not_refreshed(terminal: Terminal) -> None:
    log_in(terminal)
    done = terminal.run("accounts", "refresh", "web-chat")
    assert done.exit_code == 1
    assert "login --provider web-chat" in done.stderr


def test_removing_it_removes_its_credentials(terminal: Terminal) -> None:
    log_in(terminal)
    assert terminal.run("accounts", "remove", "web-chat", "--yes").exit_code == 0
    assert not stored(terminal).is_valid()
    folder = Path(terminal.env["XDG_STATE_HOME"]) / "qwen-mitm"
    assert b"fakesecret" not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_the_plugin_leaves_the_account_in_the_file(terminal: Terminal) -> None:
    log_in(terminal)
    (entry,) = json.loads(terminal.store.path.read_text())["accounts"]
    assert entry["refreshToken"].startswith("qwen-mitm-api-key-")
    assert entry["kind"] == "web_chat"
    assert terminal.account("web-chat").refresh_token is None


def test_an_address_that_is_none_is_refused_before_anything_is_kept(terminal: Terminal) -> None:
    words = (*LOGIN, "--base-url", "nowhere", "--force")
    done = terminal.run(*words, text=f"{TOKEN}\n{COOKIES}\n")
    assert done.exit_code == 1
    assert "--base-url must be an http or https URL" in done.stderr
    assert stored(terminal).get() is None
