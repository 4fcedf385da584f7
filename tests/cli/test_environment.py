"""What the environment can get wrong, and how the commands say so."""

from __future__ import annotations

import json
import os

import pytest

from .terminal import Terminal

OAUTH = ("--provider", "oauth")
KEY = ("--provider", "generic", "--base-url", "https://llm.example.test/v1", "--key-file", "-")

ENVIRONMENTS = [
    ("SSL_CERT_FILE", "/nowhere/ca.pem", "cannot be read: No such file or directory"),
    ("ALL_PROXY", "socks5h://user:fakesecret@127.0.0.1:1080", "names a SOCKS proxy"),
    ("HTTPS_PROXY", "foo://user:fakesecret@127.0.0.1:1080", "names a proxy that cannot be used"),
    ("https_proxy", "http://[::1", "names a proxy that cannot be used"),
]
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@pytest.fixture
def far_away(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Nothing that this machine's proxy settings do not count for."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    terminal.env["QWEN_OAUTH_BASE_URL"] = "https://oauth.example.test"
    return terminal


@pytest.mark.parametrize("way", [OAUTH, KEY], ids=["oauth", "key"])
@pytest.mark.parametrize(("variable", "value", "words"), ENVIRONMENTS)
def test_a_login_names_the_variable_that_is_at_fault(
    far_away: Terminal, way: tuple[str, ...], variable: str, value: str, words: str
) -> None:
    far_away.env[variable] = value

    done = far_away.run("login", *way, "--json", text="fakekey")

    assert done.exit_code == 1
    # Windows does not tell one case from the other.
    assert variable.lower() in done.stderr.lower()
    assert words in done.stderr
    assert "unset" in done.stderr
    assert variable.lower() in json.loads(done.stdout)["error"].lower()


def test_a_refresh_names_the_variable_that_is_at_fault(far_away: Terminal) -> None:
    far_away.log_in("work")
    far_away.env["HTTPS_PROXY"] = "foo://127.0.0.1:1080"

    done = far_away.run("accounts", "refresh", "work")

    assert done.exit_code == 1
    assert "https_proxy" in done.stderr.lower()


@pytest.mark.skipif(os.name == "nt", reason="Windows guesses where other users' folders are")
def test_an_account_file_of_an_unknown_user_is_an_error_that_names_the_variable(
    terminal: Terminal,
) -> None:
    terminal.env["QWEN_ACCOUNTS_FILE"] = "~nosuchuser/accounts.json"

    for words in (("accounts",), ("login", *OAUTH), ("accounts", "import")):
        done = terminal.run(*words, "--json")

        assert done.exit_code == 1
        assert "QWEN_ACCOUNTS_FILE" in json.loads(done.stdout)["error"]
