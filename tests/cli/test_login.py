from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.simulator import SimulatorProcess

from .terminal import NOWHERE, SECRET, Terminal

PLAN_KEY = "sk-sp-fakesecret0123456789"
STUDIO_KEY = "sk-fakesecret0123456789abcdef"


@pytest.fixture
def opened(terminal: Terminal) -> list[str]:
    """Addresses that the browser was sent to; whoever opens one there approves."""
    addresses: list[str] = []

    def browser(address: str) -> bool:
        addresses.append(address)
        return httpx.get(address, trust_env=False).is_success

    terminal.browser = browser
    return addresses


def asked(simulator: SimulatorProcess) -> list[tuple[str, str]]:
    return [
        (request["method"], request["path"])
        for request in simulator.requests()
        if "/oauth2/" not in request["path"] and not request["path"].startswith("/authorize")
    ]


# The device flow ---------------------------------------------------------------------------------


def test_a_login_in_the_browser_is_stored_and_tried(terminal: Terminal, opened: list[str]) -> None:
    done = terminal.run("login", "--provider", "oauth")

    assert done.exit_code == 0, done.stderr
    assert opened[0] in done.stderr
    assert "The code is " in done.stderr
    assert "It works: " in done.stdout
    account = terminal.account("qwen")
    assert not account.is_api_key
    assert account.refresh_token
    assert account.resource_url == terminal.simulator.base_url
    assert asked(terminal.simulator) == [("POST", "/v1/chat/completions")]
    if os.name != "nt":
        assert terminal.store.path.stat().st_mode & 0o777 == 0o600


def test_the_probe_of_a_login_is_a_request_of_one_token(
    terminal: Terminal, opened: list[str]
) -> None:
    terminal.run("login", "--provider", "qwen")

    body = terminal.simulator.requests()[-1]["json"]
    assert body["model"] == "coder-model"
    assert body["max_tokens"] == 1
    assert body["stream"] is True


def test_a_login_that_requests_are_refused_with_tells_of_the_end_of_the_free_tier(
    terminal: Terminal, opened: list[str]
) -> None:
    terminal.simulator.oauth("terms", free_tier_ended=True)

    done = terminal.run("login", "--provider", "oauth", "--name", "work")

    assert done.exit_code == 1
    assert "free Qwen OAuth tier ended on 2026-04-15" in done.stderr
    assert "Coding Plan" in done.stderr
    assert "Token Plan" in done.stderr
    assert "qwen-mitm login --provider coding-plan" in done.stderr
    assert terminal.account("work").cooldowns["*"].reason == "not_entitled"


def test_pending_and_slow_down_are_waited_for(terminal: Terminal, opened: list[str]) -> None:
    terminal.simulator.oauth("script", token=["pending", "slow-down-429", "html", "503"])

    assert terminal.run("login", "--provider", "oauth").exit_code == 0
    assert [redeem["outcome"] for redeem in terminal.simulator.redeems()][-1] == "issued"


@pytest.mark.parametrize(
    ("answer", "words"), [("denied", "denied in the browser"), ("expired", "The code expired")]
)
def test_a_login_that_fails_stores_nothing(
    terminal: Terminal, opened: list[str], answer: str, words: str
) -> None:
    terminal.simulator.oauth("script", token=[answer])

    done = terminal.run("login", "--provider", "oauth")

    assert done.exit_code == 1
    assert words in done.stderr
    assert terminal.accounts() == ()


def test_logging_in_again_keeps_the_account_and_replaces_its_tokens(
    terminal: Terminal, opened: list[str]
) -> None:
    before = terminal.log_in("work", needs_login=True, added_at=5)

    assert terminal.run("login", "--provider", "oauth", "--name", "work").exit_code == 0

    after = terminal.account("work")
    assert len(terminal.accounts()) == 1
    assert after.refresh_token != before.refresh_token
    assert not after.needs_login
    assert after.added_at == 5


def test_logging_in_to_a_disabled_account_says_how_to_enable_it(
    terminal: Terminal, opened: list[str]
) -> None:
    terminal.log_in("my work", disabled=True)

    done = terminal.run("login", "--provider", "oauth", "--name", "my work")

    assert done.exit_code == 0, done.stderr
    assert "is disabled" in done.stderr
    assert "`qwen-mitm accounts enable 'my work'`" in done.stderr
    assert terminal.account("my work").disabled


def test_a_new_key_of_a_disabled_account_says_how_to_enable_it(terminal: Terminal) -> None:
    terminal.add(
        Account(name="home", api_key=SecretStr("fakekey"), base_url=NOWHERE, disabled=True)
    )
    words = ("login", "--provider", "vllm", "--base-url", terminal.simulator.url, "--name", "home")

    done = terminal.run(*words)

    assert done.exit_code == 0, done.stderr
    assert "`qwen-mitm accounts enable home`" in done.stderr


def test_the_name_of_a_key_is_refused_before_anybody_goes_to_the_browser(
    terminal: Terminal, opened: list[str]
) -> None:
    terminal.add(Account(name="plan", api_key=SecretStr("fakesecret"), base_url=NOWHERE))

    done = terminal.run("login", "--provider", "oauth", "--name", "plan")

    assert done.exit_code == 1
    assert "is an API key" in done.stderr
    assert opened == []


def test_no_browser_is_opened_when_none_is_wanted(terminal: Terminal, opened: list[str]) -> None:
    terminal.simulator.oauth("script", token=["denied"])

    done = terminal.run("login", "--provider", "oauth", "--no-browser")

    assert opened == []
    assert "Open this page" in done.stderr


def test_programs_get_the_address_first_and_the_account_last(
    terminal: Terminal, opened: list[str]
) -> None:
    done = terminal.run("login", "--provider", "oauth", "--json")

    first, last = (json.loads(line) for line in done.stdout.splitlines())
    assert first["address"] == opened[0]
    assert last["account"]["name"] == "qwen"
    assert last["test"]["outcome"] == "works"


def test_a_corrupt_file_stops_the_login_before_it_begins(
    terminal: Terminal, opened: list[str]
) -> None:
    terminal.store.path.parent.mkdir(parents=True)
    terminal.store.path.write_text('{"version": 1, "accounts": [')

    done = terminal.run("login", "--provider", "oauth")

    assert done.exit_code == 1
    assert "cannot be used" in done.stderr
    assert opened == []
    assert terminal.store.path.read_text() == '{"version": 1, "accounts": ['


# Keys --------------------------------------------------------------------------------------------


def test_a_key_finds_the_host_that_accepts_it(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    terminal.simulator.accounts({PLAN_KEY: "plan"})
    terminal.places["coding-plan"] = (NOWHERE, elsewhere.base_url, terminal.simulator.base_url)

    done = terminal.run("login", "--key-file", "-", text=f"{PLAN_KEY}\n")

    assert done.exit_code == 0, done.stderr
    assert "That is a key of Coding Plan or Token Plan." in done.stderr
    account = terminal.account("coding-plan")
    assert account.base_url == terminal.simulator.base_url
    assert account.provider == "coding-plan"
    assert account.api_key == SecretStr(PLAN_KEY)
    assert [path for _, path in asked(elsewhere)] == ["/v1/models"]


def test_a_key_of_a_plan_is_tried_at_both_plans(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    terminal.simulator.accounts({PLAN_KEY: "plan"})
    terminal.places["coding-plan"] = (elsewhere.base_url,)
    terminal.places["token-plan"] = (terminal.simulator.base_url,)

    assert terminal.run("login", "--key-file", "-", text=PLAN_KEY).exit_code == 0

    assert terminal.account("token-plan").provider == "token-plan"


def test_an_account_is_asked_by_responses_where_that_is_wanted(terminal: Terminal) -> None:
    terminal.simulator.accounts({STUDIO_KEY: "studio"})
    terminal.places["dashscope"] = (terminal.simulator.base_url,)
    wanted = ("login", "--provider", "dashscope", "--wire", "responses", "--key-file", "-")
    assert terminal.run(*wanted, text=STUDIO_KEY).exit_code == 0
    assert terminal.account("dashscope").wire == "responses"
    assert "dashscope (responses)" in terminal.run("accounts").stdout
    listed = json.loads(terminal.run("accounts", "--json").stdout)
    assert listed["accounts"][0]["wire"] == "responses"

    again = ("login", "--provider", "dashscope", "--key-file", "-")
    assert terminal.run(*again, text=STUDIO_KEY).exit_code == 0
    assert terminal.account("dashscope").wire == "responses"
    assert terminal.run(*again, "--wire", "chat", text=STUDIO_KEY).exit_code == 0
    assert "(responses)" not in terminal.run("accounts").stdout


@pytest.mark.parametrize(
    ("provider", "wire", "words"),
    [
        ("coding-plan", "responses", "has no Responses endpoint"),
        ("dashscope", "websocket", "--wire is chat or responses"),
        ("oauth", "responses", "are for keys"),
    ],
)
def test_a_wire_that_a_host_does_not_have_is_refused(
    terminal: Terminal, provider: str, wire: str, words: str
) -> None:
    done = terminal.run(
        "login", "--provider", provider, "--wire", wire, "--key-file", "-", text=PLAN_KEY
    )
    assert done.exit_code == 1
    assert words in done.stderr
    assert asked(terminal.simulator) == []


def test_no_other_vendor_sees_the_key(terminal: Terminal, elsewhere: SimulatorProcess) -> None:
    terminal.simulator.accounts({STUDIO_KEY: "studio"})
    terminal.places["dashscope"] = (terminal.simulator.base_url,)
    for other in ("coding-plan", "token-plan", "openrouter", "modelscope"):
        terminal.places[other] = (elsewhere.base_url,)

    assert terminal.run("login", "--key-file", "-", text=STUDIO_KEY).exit_code == 0

    assert terminal.account("dashscope").base_url == terminal.simulator.base_url
    assert elsewhere.requests() == []


def test_a_key_that_no_host_accepts_is_not_stored(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    terminal.places["coding-plan"] = (elsewhere.base_url,)

    done = terminal.run("login", "--provider", "coding-plan", "--key-file", "-", text=PLAN_KEY)

    assert done.exit_code == 1
    assert "Nothing was stored: no host of Coding Plan accepts that key" in done.stderr
    assert not terminal.store.path.exists()


def test_force_stores_a_key_that_no_host_accepts(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    words = ("login", "--provider", "coding-plan", "--base-url", elsewhere.base_url)

    done = terminal.run(*words, "--force", "--key-file", "-", text=PLAN_KEY)

    assert done.exit_code == 0
    assert terminal.account("coding-plan").base_url == elsewhere.base_url
    assert "cannot be used yet" in done.stderr


def test_force_with_several_hosts_asks_for_one(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    terminal.places["coding-plan"] = (elsewhere.base_url, NOWHERE)
    words = ("login", "--provider", "coding-plan", "--force", "--key-file", "-")

    done = terminal.run(*words, text=PLAN_KEY)

    assert done.exit_code == 1
    assert "Say which host it is for with --base-url." in done.stderr


def test_a_list_that_everybody_may_read_proves_nothing(terminal: Terminal) -> None:
    # Any bearer gets the list of this simulator, and the request without one is refused.
    terminal.places["openrouter"] = (terminal.simulator.base_url,)

    terminal.run("login", "--key-file", "-", text="sk-or-v1-fakesecret0123456789")

    # It has no /key, so that one token is asked for.
    assert [path for _, path in asked(terminal.simulator)] == ["/v1/key", "/v1/chat/completions"]
    assert terminal.account("openrouter").provider == "openrouter"


def test_a_key_whose_quota_is_used_up_is_at_home_all_the_same(terminal: Terminal) -> None:
    terminal.places["openrouter"] = (terminal.simulator.base_url,)
    terminal.simulator.script(["429-quota"])

    done = terminal.run("login", "--key-file", "-", text="sk-or-v1-fakesecret0123456789")

    assert done.exit_code == 0
    assert "accepts the key, but: You exceeded your current quota" in done.stderr
    assert "cannot be used yet" in done.stderr


def test_a_key_goes_to_no_vendor_that_it_is_not_of(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    terminal.places["openrouter"] = (elsewhere.base_url,)

    done = terminal.run("login", "--provider", "openrouter", "--key-file", "-", text=PLAN_KEY)

    assert done.exit_code == 1
    assert "looks like a key of coding-plan or token-plan" in done.stderr
    assert elsewhere.requests() == []


def test_a_recognised_key_goes_to_no_strange_address(
    terminal: Terminal, elsewhere: SimulatorProcess
) -> None:
    words = ("login", "--base-url", elsewhere.base_url, "--key-file", "-")

    done = terminal.run(*words, text=PLAN_KEY)

    assert done.exit_code == 1
    assert "none of its hosts" in done.stderr
    assert elsewhere.requests() == []


@pytest.mark.parametrize("key", [PLAN_KEY, "sk-or-v1-fakesecret0123456789"])
@pytest.mark.parametrize("url", ["http://127.0.0.2:11434", "http://llm.example.test:8000/v1"])
def test_the_usual_port_of_a_program_does_not_make_a_host_trusted(
    terminal: Terminal, key: str, url: str
) -> None:
    done = terminal.run("login", "--base-url", url, "--key-file", "-", text=key)

    assert done.exit_code == 1
    assert "none of its hosts" in done.stderr
    assert "--provider" in done.stderr


def test_a_recognised_key_goes_to_the_program_that_is_named(terminal: Terminal) -> None:
    words = ("login", "--provider", "vllm", "--base-url", terminal.simulator.url)

    done = terminal.run(*words, "--key-file", "-", text=PLAN_KEY)

    assert done.exit_code == 0, done.stderr
    assert terminal.account("vllm").api_key == SecretStr(PLAN_KEY)


def test_a_key_file_may_begin_with_a_byte_order_mark(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    file.write_bytes(b"\xef\xbb\xbf" + PLAN_KEY.encode() + b"\r\n")
    words = ("login", "--provider", "vllm", "--base-url", terminal.simulator.url)

    done = terminal.run(*words, "--key-file", str(file))

    assert done.exit_code == 0, done.stderr
    assert terminal.account("vllm").api_key == SecretStr(PLAN_KEY)


def test_an_address_of_another_vendor_is_refused(terminal: Terminal) -> None:
    url = "https://openrouter.ai/api/v1"
    words = ("login", "--provider", "dashscope", "--base-url", url, "--key-file", "-")

    done = terminal.run(*words, text=STUDIO_KEY)

    assert done.exit_code == 1
    assert f"{url} is a host of OpenRouter" in done.stderr


def test_a_server_of_ones_own_needs_no_key_and_no_version(terminal: Terminal) -> None:
    done = terminal.run("login", "--provider", "vllm", "--base-url", terminal.simulator.url)

    assert done.exit_code == 0, done.stderr
    account = terminal.account("vllm")
    assert account.base_url == terminal.simulator.base_url
    assert account.provider == "vllm"
    assert account.api_key == SecretStr("EMPTY")


def test_a_server_of_ones_own_needs_an_address(terminal: Terminal) -> None:
    done = terminal.run("login", "--provider", "ollama")

    assert done.exit_code == 1
    assert "--base-url http://127.0.0.1:11434/v1" in done.stderr


def test_the_terms_of_a_plan_are_shown_the_first_time(terminal: Terminal) -> None:
    terminal.places["coding-plan"] = terminal.places["token-plan"] = (terminal.simulator.base_url,)
    words = ("login", "--provider", "coding-plan", "--key-file", "-")

    first = terminal.run(*words, text=PLAN_KEY)
    second = terminal.run(*words, text=f"{PLAN_KEY}2")

    assert "interactive use in coding programs" in first.stderr
    assert "interactive use in coding programs" not in second.stderr
    assert [account.name for account in terminal.accounts()] == ["coding-plan", "coding-plan-2"]


def test_the_same_key_again_makes_no_second_account(terminal: Terminal) -> None:
    terminal.places["coding-plan"] = (terminal.simulator.base_url,)
    words = ("login", "--provider", "coding-plan", "--key-file", "-")

    terminal.run(*words, "--name", "mine", text=PLAN_KEY)
    terminal.run(*words, text=PLAN_KEY)

    assert [account.name for account in terminal.accounts()] == ["mine"]


def test_a_key_is_read_from_a_file(terminal: Terminal, tmp_path: Path) -> None:
    terminal.places["coding-plan"] = (terminal.simulator.base_url,)
    (tmp_path / "key").write_text(f"{PLAN_KEY}\n")

    document = terminal.json("login", "--key-file", str(tmp_path / "key"))

    assert document["account"]["provider"] == "coding-plan"
    assert document["tests"][-1]["outcome"] == "works"


@pytest.mark.parametrize("text", ["", "two words", "line\nline", "schlüssel"])
def test_what_is_no_key_is_refused(terminal: Terminal, text: str) -> None:
    done = terminal.run("login", "--provider", "coding-plan", "--key-file", "-", text=text)

    assert done.exit_code == 1
    assert "no key" in done.stderr or "no API key" in done.stderr


def test_a_key_that_tells_nothing_needs_a_provider_where_nobody_can_be_asked(
    terminal: Terminal,
) -> None:
    done = terminal.run("login", "--key-file", "-", text="fakesecret")

    assert done.exit_code == 1
    assert "Say --provider, one of: coding-plan, " in done.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://127.0.0.1:0/v1"])
def test_what_is_no_address_is_refused(terminal: Terminal, url: str) -> None:
    done = terminal.run("login", "--provider", "vllm", "--base-url", url)

    assert done.exit_code == 1
    assert "--base-url must be an http or https URL" in done.stderr


def test_an_unknown_provider_is_named_with_the_known_ones(terminal: Terminal) -> None:
    done = terminal.run("login", "--provider", "acme")

    assert done.exit_code == 1
    assert "'acme'" in done.stderr
    assert "oauth, coding-plan" in done.stderr


def test_nobody_to_ask_for_the_key_is_an_error_that_says_how_to_give_it(
    terminal: Terminal,
) -> None:
    document = terminal.json("login", "--provider", "coding-plan")

    assert "--key-file FILE" in document["error"]


def test_a_host_that_quotes_the_key_is_not_quoted(terminal: Terminal) -> None:
    key = "sk-or-v1-fakesecret0123456789"
    body = {"error": {"message": f"no such key: {key}\x1b[2J", "code": "invalid_api_key"}}
    terminal.places["openrouter"] = (terminal.simulator.base_url,)
    terminal.simulator.script([{"status": 401, "body": json.dumps(body)}])

    done = terminal.run("login", "--key-file", "-", text=key)

    assert "no such key: …" in done.stderr
    assert "\x1b" not in done.stderr


def test_logins_of_other_programs_are_imported(terminal: Terminal) -> None:
    folder = terminal.home / ".qwen"
    folder.mkdir()
    login = {
        "access_token": "sim-access-of-qwen-code",
        "refresh_token": "sim-refresh-of-qwen-code",
        "token_type": "Bearer",
        "expiry_date": 4_000_000_000_000,
    }
    (folder / "oauth_creds.json").write_text(json.dumps(login))

    done = terminal.run("login", "--import")

    assert done.exit_code == 0
    assert terminal.account("qwen-code").refresh_token == SecretStr("sim-refresh-of-qwen-code")


# At a terminal -----------------------------------------------------------------------------------


class Screen:
    """A command of a real process at a pseudo-terminal."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        import pty

        self.shown = ""
        self._main, inner = pty.openpty()
        self.process = subprocess.Popen(
            command, env=env, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)

    def _read(self) -> bool:
        """False at the end of the process."""
        ready, _, _ = select.select([self._main], [], [], 20.0)
        assert ready, self.shown
        try:
            piece = os.read(self._main, 65536)
        except OSError:
            return False
        self.shown += piece.decode()
        return bool(piece)

    def read_until(self, is_there: Callable[[str], bool]) -> None:
        while not is_there(self.shown):
            assert self._read(), self.shown

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait(10)


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


@needs_terminal
def test_the_key_is_asked_for_and_not_shown(terminal: Terminal) -> None:
    command = terminal.command("login", "--provider", "vllm", "--base-url", terminal.simulator.url)
    with Screen(command, terminal.process_env() | {"TERM": "xterm"}) as screen:
        # The space is written when the terminal has stopped showing what is typed.
        screen.read_until(lambda shown: shown.endswith("none): "))
        screen.type("fakesecret-typed\n")

        assert screen.end() == 0, screen.shown
    assert not SECRET.search(screen.shown)
    assert terminal.account("vllm").api_key == SecretStr("fakesecret-typed")


@needs_terminal
def test_the_address_is_shown_as_a_picture_too(terminal: Terminal) -> None:
    env = terminal.process_env() | {"TERM": "xterm", "SSH_CONNECTION": "1"}
    with Screen(terminal.command("login", "--provider", "oauth"), env) as screen:
        screen.read_until(lambda shown: "Ctrl-C stops" in shown)

        assert "▀" in screen.shown
        address = next(word for word in screen.shown.split() if word.startswith("http"))
        assert httpx.get(address, trust_env=False).is_success
        assert screen.end() == 0, screen.shown
    assert not SECRET.search(screen.shown)
    assert terminal.account("qwen").access_token


@needs_terminal
def test_a_person_is_asked_whose_key_it_is(terminal: Terminal) -> None:
    env = terminal.process_env() | {"TERM": "xterm"}
    with Screen(terminal.command("login"), env) as screen:
        screen.read_until(lambda shown: shown.endswith("API key: "))
        screen.type("fakesecret-of-nobody\n")
        screen.read_until(lambda shown: "Number: " in shown)
        screen.type("99\n")
        screen.read_until(lambda shown: "A number from 1 to 10." in shown)
        screen.type("6\n")
        screen.read_until(lambda shown: "Base URL [http://127.0.0.1:8000/v1]: " in shown)
        screen.type(f"{terminal.simulator.base_url}\n")

        assert screen.end() == 0, screen.shown
    assert terminal.account("vllm").base_url == terminal.simulator.base_url


@needs_terminal
def test_ctrl_c_ends_a_login_without_a_trace(terminal: Terminal) -> None:
    env = terminal.process_env() | {"SSH_CONNECTION": "1"}
    with Screen(terminal.command("login", "--provider", "oauth"), env) as screen:
        screen.read_until(lambda shown: "Ctrl-C stops" in shown)
        screen.process.send_signal(signal.SIGINT)

        assert screen.end() == 130
    assert "Stopped." in screen.shown
    assert "Traceback" not in screen.shown
    assert terminal.accounts() == ()
