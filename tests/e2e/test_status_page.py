"""The status page as a person sees it, in a real browser, and what its addresses give to whom."""

from __future__ import annotations

import json
import sqlite3
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Literal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from qwen_mitm.observing.days import FILE_NAME
from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.status import Status
from tests.e2e.accounts import AccountsOfTest, accounts_of, ask, leaks, limited, wait_until
from tests.e2e.browser import PROGRAM, Browser
from tests.e2e.clients import Way
from tests.e2e.conftest import StartProxy
from tests.e2e.flaky import unused_port
from tests.e2e.proxy import ROOT, Proxy

IMAGES = ROOT / "docs" / "images"
OF_TURNS = ("qwen_turns_total", "qwen_cost_total")
PAGE = "http://qwen.mitm/"
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium")

COUNT_COLOURS = """(id) => {
    const canvas = document.getElementById(id);
    const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let i = 0; i < all.length; i += 4) {
        if (all[i + 3] === 255) seen.add((all[i] << 16) | (all[i + 1] << 8) | all[i + 2]);
    }
    return seen.size;
}"""

DESKTOP = (1040, 1460)
PHONE = (390, 844)


@pytest.fixture
def accounts(tmp_path: Path, simulator: SimulatorProcess) -> Iterator[AccountsOfTest]:
    with accounts_of(tmp_path, simulator) as opened:
        yield opened


@pytest.fixture
def page_port() -> int:
    return unused_port()


@pytest.fixture
def busy(
    start_proxy: StartProxy,
    accounts: AccountsOfTest,
    page_port: int,
    request: pytest.FixtureRequest,
) -> Proxy:
    """A proxy with a past, three accounts in three states, and turns that worked and failed."""
    accounts.write(
        accounts.key("plan"),
        accounts.key("work", cooldowns={"*": limited(5 * 3600 + 90, "window")}),
        accounts.key("team", cooldowns={"qwen3-max": limited(1500)}),
        accounts.oauth("old-login", needsLogin=True),
    )
    _past(proxy_state(accounts) / FILE_NAME)
    options = accounts.options | {"qwen_status_port": str(page_port)}
    proxy = start_proxy(env=accounts.env, options=options)
    dice = Random(8)
    longest_s = 1.2 if request.config.getoption("--screenshots") else 0.05
    with Way(proxy).http() as http, ThreadPoolExecutor(4) as pool:
        waits = [dice.uniform(0, longest_s) for _ in range(5)]
        models = (f"sim-late-head-{dice.choice(waits):.2f}+long-40" for _ in range(24))
        answers = list(pool.map(lambda model: ask(http, model), models))
        assert {answer.status_code for answer in answers} == {200}
        assert ask(http, "sim-400-inspection").status_code == 400
        assert ask(http, "sim-unfinished-3").status_code == 200
    return proxy


def proxy_state(accounts: AccountsOfTest) -> Path:
    """The folder for state of its proxies."""
    return accounts.path.parents[2] / ".local" / "state" / "qwen-mitm"


def turns_today(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        today = datetime.now(UTC).date().isoformat()
        (found,) = connection.execute(
            "SELECT sum(turns) FROM account_days WHERE date = ?", (today,)
        )
    return int(found[0])


def _past(path: Path) -> None:
    """Days that other proxies left behind."""
    dice, today = Random(8), datetime.now(UTC).date()
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for back in range(30):
        date = (today - timedelta(days=back)).isoformat()
        weekend = (today - timedelta(days=back)).weekday() > 4
        for name, share in (("plan", 1.0), ("work", 0.7), ("team", 0.35)):
            turns = int(dice.uniform(0.3, 1) * share * (25 if weekend else 110))
            read = turns * dice.randint(24_000, 42_000)
            wrote = turns * dice.randint(500, 1200)
            counts = (turns, turns // 40, read, read * 8 // 10, wrote, wrote // 3)
            rows.append((date, name, "USD", *counts, read * 4e-7 + wrote * 4e-6))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE account_days (date TEXT NOT NULL, account TEXT NOT NULL, currency TEXT "
            "NOT NULL, turns INTEGER NOT NULL, failed INTEGER NOT NULL, input INTEGER NOT NULL,"
            "cached INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,"
            "cost REAL NOT NULL, PRIMARY KEY (date, account, currency)) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO account_days VALUES (?,?,?,?,?,?,?,?,?,?)", rows)


@pytest.fixture
def browser(tmp_path: Path, busy: Proxy) -> Iterator[Browser]:
    """Goes through the proxy, as programs do."""
    with Browser(tmp_path / "browser", proxy=busy.url) as opened:
        yield opened


def shown(browser: Browser, selector: str) -> list[str]:
    """The texts of what matches and can be seen."""
    listed = browser.run(
        f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})]"
        ".filter((one) => one.checkVisibility()).map((one) => one.innerText))"
    )
    texts: list[str] = json.loads(listed)
    return texts


def colours_of(browser: Browser, canvas: str) -> int:
    """How many different colours a chart has; one that drew nothing has one."""
    found = browser.run(f"({COUNT_COLOURS})({json.dumps(canvas)})")
    assert isinstance(found, int)
    return found


def lightness(browser: Browser) -> float:
    """Of the page's background, 0 to 255."""
    colour = browser.run("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[4:-1].split(",")) / 3


def save(browser: Browser, name: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--screenshots"):
        browser.screenshot(IMAGES / name)


@needs_chromium
def test_the_page_shows_accounts_charts_and_failures_in_both_colour_schemes_and_on_a_phone(
    browser: Browser, request: pytest.FixtureRequest
) -> None:
    browser.look(*DESKTOP, "light")
    browser.open(PAGE)
    browser.wait_until("document.querySelectorAll('#accounts tbody tr').length === 4")
    _check(browser)
    assert lightness(browser) > 200
    save(browser, "status-light.png", request)

    browser.look(*DESKTOP, "dark")
    browser.wait_until("getComputedStyle(document.body).backgroundColor === 'rgb(18, 20, 23)'")
    _check(browser)
    save(browser, "status-dark.png", request)

    schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
    for scheme in schemes:
        browser.look(*PHONE, scheme)
        browser.open(PAGE)
        browser.wait_until("document.querySelectorAll('#accounts tbody tr').length === 4")
        _check(browser)
        width = browser.run("document.documentElement.scrollWidth")
        assert width <= PHONE[0], "it can be scrolled sideways"
        if scheme == "dark":
            save(browser, "status-phone.png", request)
    assert browser.complaints == []


def _check(browser: Browser) -> None:
    plan, work, team, login = shown(browser, "#accounts tbody tr")
    assert plan.startswith("plan")
    assert "ok" in plan
    assert "quota used up" in work
    assert "(in 5 h" in work
    assert "qwen3-max: cooling until" in team
    assert "needs login" in login
    unfinished, refused = shown(browser, "#failures li")
    assert "broke its answer off" in unfinished
    assert "The request itself was refused" in refused
    assert "Change what the message names." in refused
    assert colours_of(browser, "days") > 3
    assert colours_of(browser, "costs") > 3
    assert colours_of(browser, "firsts") > 3
    assert shown(browser, "#live")[0].startswith("Live")


@needs_chromium
def test_it_counts_down_and_shows_new_turns_without_being_loaded_again(
    browser: Browser, busy: Proxy, page_port: int
) -> None:
    browser.look(*DESKTOP, "light")
    browser.open(f"http://127.0.0.1:{page_port}/")
    browser.wait_until("document.querySelectorAll('#accounts tbody tr').length === 4")
    browser.run("window.stays = document.querySelector('#accounts tbody tr')")
    team = "#accounts .models .until"
    before, turns = shown(browser, team)[0], number(shown(browser, "#turns")[0])
    browser.wait_until(f"document.querySelector('{team}').innerText !== {json.dumps(before)}")
    with Way(busy).http() as http:
        ask(http)

    browser.wait_until(f"document.querySelector('#turns').innerText === '{turns + 1}'")

    assert browser.run("window.stays === document.querySelector('#accounts tbody tr')")
    assert browser.complaints == []
    busy.stop()
    browser.wait_until("document.querySelector('#live').className === 'lost'")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def through(proxy: Proxy) -> httpx.Client:
    verify = ssl.create_default_context(cafile=proxy.ca)
    return httpx.Client(proxy=proxy.url, verify=verify, trust_env=False, timeout=10)


def test_the_document_has_the_figures_and_no_secret(
    busy: Proxy, accounts: AccountsOfTest, page_port: int
) -> None:
    with through(busy) as http:
        one, page = http.get(f"{PAGE}status.json"), http.get(PAGE)
    with httpx.Client(trust_env=False) as http:
        other = http.get(f"http://127.0.0.1:{page_port}/status.json")
    for answer in (one, other):
        observed = Status.model_validate_json(answer.content).observed
        assert observed
        assert [account["name"] for account in observed.accounts] == [
            "plan",
            "work",
            "team",
            "old-login",
        ]
        assert len(observed.moments) == 24
        assert {len(moment.model) > 0 for moment in observed.moments} == {True}
        assert [failure.kind for failure in observed.failures] == [
            "answer_failed",
            "request_refused",
        ]
        assert leaks(answer.text) == set()
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "<script>" not in page.text
    assert "style=" not in page.text


def test_days_outlive_the_proxy(
    busy: Proxy, accounts: AccountsOfTest, start_proxy: StartProxy
) -> None:
    busy.stop()
    path = proxy_state(accounts) / FILE_NAME
    before = turns_today(path)
    after = start_proxy(env=accounts.env, options=accounts.options)
    with Way(after).http() as http:
        ask(http)
    after.stop()
    assert turns_today(path) == before + 1


def test_metrics_are_at_the_proxy_and_at_a_port_of_their_own(
    start_proxy: StartProxy, accounts: AccountsOfTest, page_port: int
) -> None:
    accounts.write(accounts.key("plan"), accounts.key("work"))
    prices = accounts.path.with_name("prices.json")
    prices.write_text('{"models": {"qwen3-coder-plus": {"input": 2, "output": 4}}}')
    own = {
        "qwen_metrics_port": str(page_port),
        "qwen_rotation_strategy": "sequential",
        "qwen_prices": str(prices),
    }
    options = accounts.options | own
    proxy = start_proxy(env=accounts.env, options=options)
    accounts.simulator.script(["429", ""])
    with Way(proxy).http() as http:
        assert ask(http).status_code == 200
    with httpx.Client(trust_env=False) as http:
        page = http.get(f"http://127.0.0.1:{page_port}/metrics")
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.labels.get("account") != "work" or sample.name in OF_TURNS
    }
    assert found["qwen_turns_total"] == 1
    assert found["qwen_cost_total"] > 0
    assert found["qwen_failovers_total"] == 1
    assert found["qwen_cooldowns"] == 1
    assert found["qwen_open_streams"] == 0
    assert found["qwen_time_to_first_token_seconds_count"] == 1
    with through(proxy) as http:
        assert "qwen_turns_total" in http.get(f"{PAGE}metrics").text
    assert leaks(page.text) == set()


def test_an_open_stream_is_one(start_proxy: StartProxy, accounts: AccountsOfTest) -> None:
    accounts.write(accounts.key("plan"))
    proxy = start_proxy(env=accounts.env, options=accounts.options)
    body = {"model": "sim-gate-page@3", "input": "hello", "stream": True}

    def open_streams() -> int:
        with through(proxy) as http:
            status = Status.model_validate_json(http.get(f"{PAGE}status.json").content)
        assert status.observed
        return status.observed.open_streams

    with Way(proxy).http() as http, http.stream("POST", "/responses", json=body) as answer:
        accounts.simulator.reached("page")
        assert open_streams() == 1
        accounts.simulator.release("page")
        answer.read()
    wait_until(lambda: open_streams() == 0)


def test_other_sites_cannot_read_the_port(start_proxy: StartProxy, page_port: int) -> None:
    start_proxy(options={"qwen_status_port": str(page_port)})
    cases: list[tuple[dict[str, str], str, int]] = [
        ({}, "/", 200),
        ({"host": "localhost"}, "/status.json", 200),
        ({"host": "rebound.example"}, "/status.json", 403),
        ({"host": "rebound.example"}, "/", 403),
        ({"origin": "https://elsewhere.example"}, "/status.json", 403),
        ({"sec-fetch-site": "cross-site"}, "/metrics", 403),
        ({"sec-fetch-site": "cross-site"}, "/", 200),
        ({}, "/../etc/passwd", 404),
    ]
    with httpx.Client(trust_env=False) as http:
        for headers, path, status in cases:
            answer = http.get(f"http://127.0.0.1:{page_port}{path}", headers=headers)
            assert answer.status_code == status, (headers, path)
            assert "access-control-allow-origin" not in answer.headers


def test_the_port_asks_for_the_user_of_the_proxy(start_proxy: StartProxy, page_port: int) -> None:
    start_proxy(options={"qwen_status_port": str(page_port), "proxyauth": "user:fake-password"})
    url = f"http://127.0.0.1:{page_port}/status.json"
    with httpx.Client(trust_env=False) as http:
        assert http.get(url).status_code == 401
        assert http.get(url, auth=("user", "wrong")).status_code == 401
        assert http.get(url, auth=("user", "fake-password")).status_code == 200


def test_a_port_that_is_taken_does_not_keep_the_proxy_from_starting(
    start_proxy: StartProxy, page_port: int
) -> None:
    options = {"qwen_status_port": str(page_port)}
    start_proxy(options=options)
    other = start_proxy(options=options)
    other.wait_for_log(f"port {page_port} cannot be used")
    with through(other) as http:
        assert http.get(PAGE).status_code == 200
