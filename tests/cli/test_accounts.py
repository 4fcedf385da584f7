from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown, DayUsage
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.shown import document, state
from qwen_mitm.cli.table import moment, remarks, since, span, until

from .terminal import NOWHERE, Terminal

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: Wednesday.
NOW = int(datetime(2026, 11, 18, 14, 20, tzinfo=UTC).timestamp() * 1000)
FAR = 4_000_000_000_000


def key(name: str = "plan", base_url: str = NOWHERE, **fields: object) -> Account:
    return Account.model_validate(
        {
            "name": name,
            "kind": "api_key",
            "api_key": SecretStr("fakesecret-of-a-plan"),
            "base_url": base_url,
            **fields,
        }
    )


def cooling(
    until: int | None = FAR, reason: str = "window", model: str = ALL_MODELS, message: str = ""
) -> dict[str, Cooldown]:
    cooldown = {"until": until, "reason": reason, "since": 1, "message": message}
    return {model: Cooldown.model_validate(cooldown)}


# The table ---------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_account(terminal: Terminal) -> None:
    today = datetime.now(UTC).date().isoformat()
    terminal.add(
        key(usage=DayUsage(date=today, requests=12, tokens=34567)),
        key("off", disabled=True),
        key("spent", cooldowns=cooling(message="hour allocated quota exceeded")),
    )
    terminal.log_in("work", needs_login=True)

    done = terminal.run("accounts")

    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "api key" in rows["plan"]
    assert " ok " in rows["plan"]
    assert rows["plan"].split()[-2:] == ["12", "34,567"]
    assert "disabled" in rows["off"]
    assert "quota used up" in rows["spent"]
    assert "2096-" in rows["spent"]
    assert "needs login" in rows["work"]
    assert "spent: hour allocated quota exceeded" in done.stdout
    assert "qwen-mitm login --provider oauth --name work" in done.stdout


def test_the_list_for_programs_says_the_same(terminal: Terminal) -> None:
    terminal.add(key(cooldowns=cooling(model="qwen3-max", reason="model", until=None)))

    listed = terminal.json("accounts")

    assert listed["file"] == str(terminal.store.path)
    (account,) = listed["accounts"]
    assert account["name"] == "plan"
    assert account["kind"] == "api_key"
    assert account["state"] == "ok"
    assert account["requests_today"] == 0
    assert account["cooldowns"] == [
        {
            "model": "qwen3-max",
            "reason": "model",
            "words": "not offered",
            "until": None,
            "message": "",
        }
    ]


def test_without_a_file_there_is_no_account_and_no_error(terminal: Terminal) -> None:
    done = terminal.run("accounts")

    assert done.exit_code == 0
    assert "`qwen-mitm login` adds one" in done.stdout
    assert terminal.json("accounts")["accounts"] == []


def test_a_corrupt_file_is_an_error_for_people_and_programs(terminal: Terminal) -> None:
    terminal.store.path.parent.mkdir(parents=True)
    terminal.store.path.write_text('{"version": 7, "accounts": []}')

    done = terminal.run("accounts", "--json")

    assert done.exit_code == 1
    assert "version" in json.loads(done.stdout)["error"]
    assert "version" in done.stderr


def test_what_a_terminal_would_obey_is_not_printed(terminal: Terminal) -> None:
    terminal.add(key("a\x1b[2Jb", cooldowns=cooling(message="\x1b]0;title\x07 [red]x")))

    done = terminal.run("accounts")

    assert "\x1b" not in done.stdout
    assert "[red]x" in done.stdout


def test_a_password_in_a_base_url_is_not_shown() -> None:
    account = key(base_url="http://user:fakesecret@127.0.0.1:8000/v1")

    assert document(account, NOW, NOWHERE)["base_url"] == "http://127.0.0.1:8000/v1"


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_a_file_that_others_can_read_is_pointed_out(terminal: Terminal) -> None:
    terminal.add(key())
    terminal.store.path.chmod(0o644)

    assert "chmod 600" in terminal.run("accounts").stderr


def test_use_of_another_day_is_not_of_today() -> None:
    account = key(usage=DayUsage(date="2026-11-17", requests=5, tokens=6))

    assert document(account, NOW, NOWHERE)["requests_today"] == 0


def test_a_token_that_is_over_and_cannot_be_renewed_needs_a_login() -> None:
    account = Account(name="old", access_token=SecretStr("fakesecret"), expires=NOW - 1)

    assert state(account, NOW) == "needs_login"
    assert "log in again" in remarks([account], NOW)[0]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (NOW + 12 * MINUTE, "14:32 (in 12 min)"),
        (NOW + 30_000, "14:20 (in 30 s)"),
        (NOW + 3 * HOUR + 20 * MINUTE, "17:40 (in 3 h 20 min)"),
        (NOW + 2 * DAY, "Fri 14:20 (in 2 days)"),
        (NOW + 20 * DAY, "2026-12-08 14:20 (in 20 days)"),
        (8_640_000_000_000_000, "the end of time"),
        (None, "it is cleared"),
    ],
)
def test_the_end_of_a_cooldown_in_words(end: int | None, words: str) -> None:
    assert until(cooling(end)[ALL_MODELS], NOW, UTC) == words


def test_times_in_words() -> None:
    assert since(None, NOW) == "never"
    assert since(NOW - 5, NOW) == "just now"
    assert since(NOW - 90 * MINUTE, NOW) == "1 h 30 min ago"
    assert span(DAY) == "1 day"
    assert moment(NOW - DAY, NOW, UTC) == "2026-11-17 14:20"


# Changes -----------------------------------------------------------------------------------------


def test_an_account_is_renamed(terminal: Terminal) -> None:
    terminal.add(key("old"), key("other"))

    assert terminal.run("accounts", "rename", "old", "new").exit_code == 0

    assert [account.name for account in terminal.accounts()] == ["new", "other"]


def test_a_name_that_is_taken_is_refused(terminal: Terminal) -> None:
    terminal.add(key("old"), key("other"))

    done = terminal.run("accounts", "rename", "old", "other")

    assert done.exit_code == 1
    assert "already an account named 'other'" in done.stderr
    assert [account.name for account in terminal.accounts()] == ["old", "other"]


def test_an_unknown_name_is_answered_with_the_known_ones(terminal: Terminal) -> None:
    terminal.add(key())

    done = terminal.run("accounts", "disable", "nobody")

    assert done.exit_code == 1
    assert "'nobody'; there are: 'plan'" in done.stderr


def test_an_account_is_disabled_and_enabled(terminal: Terminal) -> None:
    terminal.add(key(cooldowns=cooling()))

    terminal.run("accounts", "disable", "plan")
    assert terminal.account("plan").disabled
    document = terminal.json("accounts", "enable", "plan")

    assert document["account"]["disabled"] is False
    assert not terminal.account("plan").disabled
    assert terminal.account("plan").cooldowns


def test_an_account_is_removed_only_with_a_yes(terminal: Terminal) -> None:
    terminal.add(key())

    refused = terminal.run("accounts", "remove", "plan")
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert terminal.accounts()

    assert terminal.json("accounts", "remove", "plan", "--yes") == {"removed": "plan"}
    assert terminal.accounts() == ()


def test_cooldowns_of_one_account_are_cleared(terminal: Terminal) -> None:
    terminal.add(key("a", cooldowns=cooling()), key("b", cooldowns=cooling()))

    assert terminal.json("accounts", "clear-cooldown", "a") == {"cleared": ["a"]}

    assert not terminal.account("a").cooldowns
    assert terminal.account("b").cooldowns


def test_cooldowns_of_all_accounts_are_cleared_but_not_what_the_user_set(
    terminal: Terminal,
) -> None:
    terminal.add(key("a", cooldowns=cooling(), disabled=True), key("b"))
    terminal.log_in("work", rate_limit_reset_at=FAR, needs_login=True)

    assert terminal.json("accounts", "clear-cooldown", "--all") == {"cleared": ["a", "work"]}

    assert terminal.account("a").disabled
    assert terminal.account("work").needs_login
    assert terminal.account("work").rate_limit_reset_at is None


@pytest.mark.parametrize("words", [(), ("plan", "--all")])
def test_clearing_needs_one_name_or_all(terminal: Terminal, words: tuple[str, ...]) -> None:
    terminal.add(key())

    assert terminal.run("accounts", "clear-cooldown", *words).exit_code == 1


def test_changes_of_many_processes_at_once_are_all_kept(terminal: Terminal) -> None:
    names = [f"account-{number}" for number in range(4)]
    terminal.add(*(key(name) for name in names))

    running = [
        subprocess.Popen(
            terminal.command("accounts", "disable", name, "--json"),
            env=terminal.process_env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for name in names
    ]
    answers = [json.loads(process.communicate(timeout=30)[0]) for process in running]

    assert [answer["account"]["disabled"] for answer in answers] == [True] * len(names)
    assert all(account.disabled for account in terminal.accounts())


def test_keys_of_other_programs_survive(terminal: Terminal) -> None:
    terminal.add(key())
    document = json.loads(terminal.store.path.read_text())
    document["accounts"][0]["theirs"] = {"a": 1}
    terminal.store.path.write_text(json.dumps(document))

    terminal.run("accounts", "rename", "plan", "new")

    assert json.loads(terminal.store.path.read_text())["accounts"][0]["theirs"] == {"a": 1}


# Refreshing --------------------------------------------------------------------------------------


def test_a_login_is_refreshed_on_demand(terminal: Terminal) -> None:
    before = terminal.log_in()

    done = terminal.run("accounts", "refresh", "work")

    assert done.exit_code == 0, done.stderr
    after = terminal.account("work")
    assert after.refresh_token != before.refresh_token
    assert [redeem["outcome"] for redeem in terminal.simulator.redeems()] == ["issued"]


def test_a_refresh_that_is_refused_marks_the_account_and_says_so_once(terminal: Terminal) -> None:
    terminal.log_in()
    terminal.simulator.oauth("revoke", account="work")

    done = terminal.run("accounts", "refresh", "work")

    assert done.exit_code == 1
    assert done.stderr.count("needs a new login") == 1
    assert terminal.account("work").needs_login


def test_a_key_is_not_refreshed(terminal: Terminal) -> None:
    terminal.add(key())

    assert "not refreshed" in terminal.run("accounts", "refresh", "plan").stderr


# Testing -----------------------------------------------------------------------------------------


def test_an_account_that_works_is_reported_with_its_latency(terminal: Terminal) -> None:
    terminal.add(key(base_url=terminal.simulator.base_url))

    done = terminal.run("accounts", "test", "plan")

    assert done.exit_code == 0
    assert "plan: works, " in done.stdout
    assert "s to the first token" in done.stdout


def test_each_account_is_tested_and_one_failure_is_enough_for_the_exit_status(
    terminal: Terminal,
) -> None:
    terminal.add(
        key("good", base_url=terminal.simulator.base_url),
        key("dead"),
        key("off", disabled=True),
    )

    done = terminal.run("accounts", "test", "--json")

    assert done.exit_code == 1
    tests = {test["name"]: test for test in json.loads(done.stdout)["tests"]}
    assert tests["good"]["outcome"] == "works"
    assert tests["good"]["latency_ms"] >= 0
    assert tests["dead"]["outcome"] == "silent"
    assert "off" not in tests
    assert "dead: no usable answer: " in done.stderr


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("401-key", "refuses it: Incorrect API key provided. (401)"),
        ("429-quota", "accepts the key, but: You exceeded your current quota"),
        ("400-arrearage", "accepts the key, but: Access denied, please make sure"),
        ("error-finish", "[Throttling] Requests are too frequent, please try again later."),
    ],
)
def test_the_error_is_told_in_the_upstreams_words(
    terminal: Terminal, behaviour: str, words: str
) -> None:
    terminal.add(key(base_url=terminal.simulator.base_url))
    terminal.simulator.script([behaviour])

    assert words in terminal.run("accounts", "test", "plan").stderr


@pytest.mark.parametrize(
    "behaviour", ["error-first", "error-after-text-1", "error-finish", "drop-1"]
)
def test_an_answer_that_breaks_off_is_a_failure(terminal: Terminal, behaviour: str) -> None:
    terminal.add(key(base_url=terminal.simulator.base_url))
    terminal.simulator.script([behaviour])

    done = terminal.run("accounts", "test", "plan", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["tests"][0]["outcome"] != "works"


def test_an_expired_login_is_refreshed_before_it_is_tested(terminal: Terminal) -> None:
    terminal.log_in(expires=1)
    terminal.simulator.oauth("expire", account="work")

    assert terminal.run("accounts", "test", "work").exit_code == 0
    assert [redeem["outcome"] for redeem in terminal.simulator.redeems()] == ["issued"]


def test_a_login_without_entitlement_is_refreshed_once_and_then_told_so(
    terminal: Terminal,
) -> None:
    terminal.log_in()
    terminal.simulator.oauth("terms", free_tier_ended=True)

    done = terminal.run("accounts", "test", "work")

    assert done.exit_code == 1
    assert "ended on 2026-04-15" in done.stderr
    assert [redeem["outcome"] for redeem in terminal.simulator.redeems()] == ["issued"]


def test_a_login_that_is_lost_is_told_so(terminal: Terminal) -> None:
    terminal.log_in(expires=1)
    terminal.simulator.oauth("revoke", account="work")

    document = terminal.json("accounts", "test", "work")

    assert document["tests"][0]["outcome"] == "refused"
    assert "needs a new login" in document["tests"][0]["message"]


def test_the_model_can_be_chosen(terminal: Terminal) -> None:
    terminal.add(key(base_url=terminal.simulator.base_url))

    terminal.run("accounts", "test", "plan", "--model", "qwen3.8-max")

    assert terminal.simulator.requests()[-1]["json"]["model"] == "qwen3.8-max"


# Importing ---------------------------------------------------------------------------------------


def write_login(path: Path, refresh_token: str, expires: int = FAR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    login = {
        "access_token": "sim-access-imported",
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "resource_url": "portal.qwen.ai",
        "expiry_date": expires,
    }
    path.write_text(json.dumps(login))
    return path


def test_logins_at_home_are_found_and_the_user_is_warned(terminal: Terminal) -> None:
    write_login(terminal.home / ".qwen" / "oauth_creds.json", "sim-refresh-1")
    write_login(terminal.home / ".qwen" / "oauth_creds_two.json", "sim-refresh-2")

    done = terminal.run("accounts", "import")

    assert done.exit_code == 0
    assert [account.name for account in terminal.accounts()] == ["qwen-code", "two"]
    assert "Log out of the other program now" in done.stderr


def test_importing_twice_changes_nothing(terminal: Terminal, tmp_path: Path) -> None:
    file = str(write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-1"))
    terminal.run("accounts", "import", file)

    document = terminal.json("accounts", "import", file)

    assert document == {"imported": [], "already_there": ["ada"], "failed": []}
    assert len(terminal.accounts()) == 1


def test_a_login_that_the_other_program_refreshed_replaces_its_copy(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "oauth_creds_ada.json"
    terminal.run("accounts", "import", str(write_login(file, "sim-refresh-1")))
    terminal.run("accounts", "rename", "ada", "mine")
    write_login(file, "sim-refresh-2", expires=FAR + HOUR)

    assert terminal.json("accounts", "import", str(file))["imported"] == ["mine"]

    (account,) = terminal.accounts()
    assert account.refresh_token == SecretStr("sim-refresh-2")


def test_a_copy_that_was_refreshed_here_is_not_replaced_by_the_spent_login(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-1")
    terminal.run("accounts", "import", str(file))
    newer = SecretStr("sim-refresh-2")
    terminal.store.update(
        lambda f: f.change("ada", lambda a: a.model_copy(update={"refresh_token": newer}))
    )

    assert terminal.json("accounts", "import", str(file))["already_there"] == ["ada"]

    (account,) = terminal.accounts()
    assert account.refresh_token == newer


def test_a_spent_login_does_not_revive_the_account_that_needs_one(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-1")
    terminal.run("accounts", "import", str(file))
    changes = {"refresh_token": SecretStr("sim-refresh-2"), "needs_login": True}
    terminal.store.update(lambda f: f.change("ada", lambda a: a.model_copy(update=changes)))

    done = terminal.run("accounts", "import", str(file))

    assert done.exit_code == 1
    assert "was redeemed already" in done.stderr
    assert terminal.account("ada").needs_login


def test_a_bad_file_does_not_hide_what_was_imported(terminal: Terminal, tmp_path: Path) -> None:
    first = write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-1")
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    unsendable = write_login(tmp_path / "oauth_creds_eve.json", "sim-refresh- 3")
    last = write_login(tmp_path / "oauth_creds_bob.json", "sim-refresh-2")
    files = [str(path) for path in (first, bad, unsendable, last)]

    done = terminal.run("accounts", "import", *files, "--json")

    assert done.exit_code == 1
    assert "Log out of the other program now" in done.stderr
    document = json.loads(done.stdout)
    assert document["imported"] == ["ada", "bob"]
    assert [failure["file"] for failure in document["failed"]] == [str(bad), str(unsendable)]
    assert "is no Qwen login" in document["failed"][0]["error"]
    assert "cannot be sent in a header" in document["failed"][1]["error"]


def test_a_newer_login_revives_the_account_that_needs_one(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.log_in("ada", needs_login=True, cooldowns=cooling())
    file = write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-newer")

    assert terminal.json("accounts", "import", str(file))["imported"] == ["ada"]

    account = terminal.account("ada")
    assert account.refresh_token == SecretStr("sim-refresh-newer")
    assert not account.needs_login
    assert not account.cooldowns

    write_login(file, "sim-refresh-newest", expires=FAR + HOUR)
    assert terminal.json("accounts", "import", str(file))["imported"] == ["ada"]
    assert len(terminal.accounts()) == 1


def test_another_login_of_the_same_name_gets_a_name_of_its_own(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.log_in("ada")
    file = write_login(tmp_path / "oauth_creds_ada.json", "sim-refresh-other")

    assert terminal.json("accounts", "import", str(file))["imported"] == ["ada-2"]


def test_nothing_to_import_is_an_error_that_says_where_was_looked(terminal: Terminal) -> None:
    done = terminal.run("accounts", "import")

    assert done.exit_code == 1
    assert "~/.qwen/oauth_creds.json" in done.stderr


def test_a_file_that_is_no_login_is_refused_without_quoting_it(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "creds.json").write_text('{"access_token": "fakesecret"}')

    done = terminal.run("accounts", "import", str(tmp_path / "creds.json"))

    assert done.exit_code == 1
    assert "is no Qwen login" in done.stderr


# As a program ------------------------------------------------------------------------------------


def test_a_pipe_gets_plain_text_and_whole_lines(terminal: Terminal) -> None:
    terminal.add(key("a" * 60), key("b", cooldowns=cooling(message="x" * 150)))

    done = subprocess.run(
        terminal.command("accounts"),
        env=terminal.process_env() | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "a" * 60 in done.stdout
    assert "x" * 150 in done.stdout


def test_the_help_names_every_command(terminal: Terminal) -> None:
    text = terminal.run("accounts", "--help").stdout

    commands = {"rename", "disable", "enable", "remove", "refresh", "import", "test"}
    assert commands | {"clear-cooldown"} <= set(text.split())
