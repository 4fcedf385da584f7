import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest

from qwen_mitm.accounts.ledger import Ledger
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.store import AccountStore
from qwen_mitm.accounts.verdicts import Verdict
from qwen_mitm.attempts import Attempts
from qwen_mitm.errors import BridgeError, NoUsableAccount, UpstreamRefused
from qwen_mitm.exchange import (
    Broken,
    Decision,
    FailedAnswer,
    GiveUp,
    HttpRequest,
    Outcome,
    Refused,
    Send,
    Wait,
)
from qwen_mitm.oauth.refresh import Refresher
from qwen_mitm.oauth.transport import open_client
from qwen_mitm.outgoing import Outgoing
from qwen_mitm.preparing import AccountTrouble, Prepared, Preparer
from qwen_mitm.providers import Dialect
from qwen_mitm.settings import Settings
from qwen_mitm.translate.answering import MendingPartReader
from qwen_mitm.translate.demands import Demands
from qwen_mitm.wire.chat import ChatChunk, EndOfAnswer, Failure
from qwen_mitm.wire.chat_request import ChatRequest

START_MS = 1_790_000_000_000
BURST = Refused(429, {"retry-after": "7"}, b"Throttling.RateQuota")
WEEK = Refused(429, {}, b"week allocated quota exceeded")


class Letter:
    """An outgoing request."""

    model = "m"
    conversation = None

    def __init__(self, demands: Demands | None = None) -> None:
        self.demands = demands or Demands()
        self.reader: MendingPartReader[ChatChunk] | None = None
        self.outcome: Outcome | None = None

    def request(self, base_path: str, dialect: Dialect) -> HttpRequest:
        fields = ((b"accept", b"text/event-stream"),)
        body = f"{dialect.profile.name} {dialect.wire}".encode()
        return HttpRequest(f"{base_path}/chat/completions", fields, body)

    def chat(self, dialect: Dialect) -> ChatRequest:
        return ChatRequest(model=dialect.profile.name, system=None, messages=())

    def read_with(self, reader: MendingPartReader[ChatChunk]) -> None:
        self.reader = reader

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        return UpstreamRefused(refused.body.decode(), status=refused.status, type="x")


class Unused:
    """A preparer where no account needs one."""

    async def prepare(self, chat: ChatRequest, account: Account) -> Prepared:
        raise AssertionError(f"{account.name} needs nothing")


class Office:
    """Attempts over an account file, at a time of the test's choosing."""

    def __init__(self, folder: Path, preparer: Preparer | None = None) -> None:
        self.now = START_MS
        self.path = folder / "accounts.json"
        self.settings = Settings(max_rate_limit_wait_seconds=60)
        store = AccountStore(self.path)
        self.ledger = Ledger(store, self._settings, {}, self._clock)
        refresher = Refresher(store, open_client, self._settings, self._clock)
        self.attempts = Attempts(
            self.ledger, refresher, self._settings, self._clock, preparer or Unused()
        )

    def _settings(self) -> Settings:
        return self.settings

    def _clock(self) -> int:
        return self.now

    def hire(self, *names: str, **extra: Mapping[str, object]) -> None:
        accounts = [
            {
                "name": name,
                "apiKey": f"fake-{name}",
                "baseUrl": f"http://127.0.0.1:81/{name}/v1",
                **extra.get(name, {}),
            }
            for name in names
        ]
        self.path.write_text(json.dumps({"version": 1, "accounts": accounts}))

    async def next(self, letter: Outgoing, outcome: Outcome | None = None) -> Decision:
        letter.outcome = outcome
        return await self.attempts.next(letter)

    async def asked(self, letter: Outgoing, outcome: Outcome | None = None) -> str:
        decision = await self.next(letter, outcome)
        assert isinstance(decision, Send)
        return decision.account


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.ledger.close()


async def test_the_account_decides_where_the_request_goes(office: Office) -> None:
    office.hire("work")
    decision = await office.next(Letter())

    assert isinstance(decision, Send)
    assert (decision.scheme, decision.host, decision.port) == ("http", "127.0.0.1", 81)
    assert decision.target == "/work/v1/chat/completions"
    assert (b"authorization", b"Bearer fake-work") in decision.headers


async def test_a_decision_does_not_show_its_bearer(office: Office) -> None:
    office.hire("work")
    assert "fake-work" not in repr(await office.next(Letter()))


async def test_without_an_account_the_client_is_told(office: Office) -> None:
    decision = await office.next(Letter())
    assert isinstance(decision, GiveUp)
    assert isinstance(decision.error, NoUsableAccount)


async def test_each_request_takes_the_next_account(office: Office) -> None:
    office.hire("a", "b", "c")
    asked = [await office.asked(Letter()) for _ in range(6)]
    assert asked[:3] == asked[3:]
    assert set(asked) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "outcome",
    [
        BURST,
        WEEK,
        Refused(401, {}, b"Incorrect API key provided"),
        Refused(500, {}, b"boom"),
        Broken("Connection refused", "connect"),
        Broken("server closed connection", "head"),
        FailedAnswer(Failure("Throttling.RateQuota", code="rate_limit_exceeded")),
    ],
)
async def test_a_failed_attempt_moves_on_and_its_account_rests(
    office: Office, outcome: Outcome
) -> None:
    office.hire("a", "b")
    letter = Letter()
    first = await office.asked(letter)
    second = await office.asked(letter, outcome)

    assert {first, second} == {"a", "b"}
    assert [await office.asked(Letter()) for _ in range(2)] == [second, second]


async def test_the_hosts_own_code_judges_the_account_though_the_client_gets_openais(
    office: Office,
) -> None:
    office.hire("a", "b")
    letter = Letter()
    words = b'{"code": "Throttling.AllocationQuota", "message": "Too many tokens."}'

    await office.asked(letter)
    await office.asked(letter, Refused(429, {}, words))
    decision = await office.next(letter, Refused(429, {}, words))

    # As insufficient_quota both would rest for a day.
    assert isinstance(decision, Wait)
    office.now += 61_000
    assert {await office.asked(Letter()) for _ in range(2)} == {"a", "b"}


async def test_the_clients_own_fault_is_answered_at_once_and_cools_nobody(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    await office.next(letter)
    fault = Refused(400, {}, b"Range of input length should be [1, 991808]")

    decision = await office.next(letter, fault)

    assert isinstance(decision, GiveUp)
    assert decision.error.status == 400
    assert {await office.asked(Letter()) for _ in range(2)} == {"a", "b"}


async def test_a_sole_account_is_never_locked_out_and_its_own_words_pass(office: Office) -> None:
    office.hire("work")
    for _ in range(3):
        letter = Letter()
        assert await office.asked(letter) == "work"
        decision = await office.next(letter, WEEK)
        assert isinstance(decision, GiveUp)
        assert decision.error.status == 429
        assert decision.error.message == "week allocated quota exceeded"


async def test_all_limited_for_a_moment_waits_for_the_first(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    first = await office.asked(letter)
    await office.asked(letter, BURST)
    decision = await office.next(letter, Refused(429, {"retry-after": "9"}, b"Throttling"))

    assert decision == Wait(1)
    office.now += 6_900
    decision = await office.next(letter)
    assert isinstance(decision, Wait)
    assert decision.seconds == pytest.approx(0.1)
    office.now += 100
    assert await office.asked(letter) == first


async def test_who_waits_is_served_by_an_account_that_was_added_meanwhile(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    await office.next(letter)
    await office.next(letter, BURST)
    assert await office.next(letter, BURST) == Wait(1)

    office.hire("a", "b", "c")
    office.now += 1_000
    assert await office.asked(letter) == "c"


async def test_all_limited_for_long_is_said_at_once_by_name(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    await office.next(letter)
    await office.next(letter, WEEK)
    decision = await office.next(letter, WEEK)

    assert isinstance(decision, GiveUp)
    assert decision.error.type == "usage_limit_reached"
    assert "a: " in decision.error.message
    assert "b: " in decision.error.message
    assert "fake-" not in decision.error.message


async def test_hosts_that_fail_are_not_asked_again_by_waiting(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    await office.next(letter)
    await office.next(letter, Refused(503, {}, b"overloaded"))
    decision = await office.next(letter, Refused(503, {}, b"still overloaded"))

    assert isinstance(decision, GiveUp)
    assert decision.error.status == 503
    assert decision.error.message == "still overloaded"


async def test_failing_hosts_are_not_asked_again_while_others_are_limited_for_long(
    office: Office,
) -> None:
    office.hire("a", "b", "c", "off", off={"disabled": True})
    letter = Letter()
    await office.next(letter)
    await office.next(letter, Refused(503, {}, b"overloaded"))
    await office.next(letter, Refused(500, {}, b"boom"))
    decision = await office.next(letter, WEEK)

    assert isinstance(decision, GiveUp)
    assert (decision.error.status, decision.error.message) == (500, "boom")


async def test_disabled_accounts_make_nobody_wait_for_hosts_that_fail(office: Office) -> None:
    office.hire("a", "b", "off", off={"disabled": True})
    letter = Letter()
    await office.next(letter)
    await office.next(letter, Refused(503, {}, b"overloaded"))
    decision = await office.next(letter, Refused(500, {}, b"boom"))

    assert isinstance(decision, GiveUp)
    assert decision.error.message == "boom"


async def test_the_words_of_the_one_host_that_could_be_asked_are_those_that_the_client_gets(
    office: Office,
) -> None:
    over = {"apiKey": None, "accessToken": "fake-old", "expires": 1}
    office.hire("a", "b", b=over)
    letter = Letter()
    while (decision := await office.next(letter, WEEK)) and isinstance(decision, Send):
        pass

    assert isinstance(decision, GiveUp)
    assert decision.error.message == "week allocated quota exceeded"


async def test_a_refusal_that_quotes_the_key_reaches_the_client_without_it(office: Office) -> None:
    office.hire("work")
    letter = Letter()
    await office.next(letter)

    decision = await office.next(letter, Refused(401, {}, b"Incorrect API key: fake-work"))

    assert isinstance(decision, GiveUp)
    assert decision.error.message == "Incorrect API key: (the account's key)"


async def test_a_stale_connection_costs_one_resend_with_the_same_account(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    stale = Broken("server closed connection", "head", reused=True)
    first = await office.asked(letter)

    assert await office.asked(letter, stale) == first
    assert await office.asked(letter, stale) != first


@pytest.mark.parametrize(
    ("stage", "timed_out", "status"),
    [("connect", False, 502), ("head", False, 502), ("head", True, 504)],
)
async def test_an_unreachable_upstream_is_named(
    office: Office, stage: Literal["connect", "head"], timed_out: bool, status: int
) -> None:
    office.hire("work")
    letter = Letter()
    await office.next(letter)

    decision = await office.next(letter, Broken("the reason", stage, timed_out=timed_out))

    assert isinstance(decision, GiveUp)
    assert decision.error.status == status
    assert "'work'" in decision.error.message
    assert "the reason" in decision.error.message


async def test_use_is_written_down_when_the_proxy_ends(office: Office) -> None:
    office.hire("work")
    for _ in range(2):
        letter = Letter()
        await office.next(letter)
        office.attempts.accepted(letter)
        office.attempts.ended(letter, None, 21)

    office.ledger.close()

    (account,) = json.loads(office.path.read_text())["accounts"]
    assert account["usage"]["requests"] == 2
    assert account["usage"]["tokens"] == 42
    assert account["lastUsed"] == START_MS


async def test_a_limit_is_on_disk_for_the_processes_to_come(office: Office, tmp_path: Path) -> None:
    office.hire("a", "b")
    letter = Letter()
    limited = await office.asked(letter)
    await office.asked(letter, WEEK)
    office.ledger.close()

    other = Office(tmp_path)
    assert limited not in [await other.asked(Letter()) for _ in range(3)]
    other.ledger.close()


async def test_a_limit_in_the_middle_of_an_answer_is_remembered(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    limited = await office.asked(letter)
    office.attempts.accepted(letter)
    office.attempts.ended(letter, Failure("week allocated quota exceeded", status=429), 5)

    assert limited not in [await office.asked(Letter()) for _ in range(3)]


async def test_cleared_cooldowns_count_no_more(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    await office.next(letter)
    await office.next(letter, WEEK)

    office.ledger.clear(None).result()

    assert {await office.asked(Letter()) for _ in range(2)} == {"a", "b"}


async def test_the_accounts_are_listed_with_their_states(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    limited = await office.asked(letter)
    await office.next(letter, WEEK)

    lines = {line.split(" · ")[0]: line for line in office.ledger.describe()}

    assert "window until" in lines.pop(limited)
    (other,) = lines.values()
    assert other.endswith("· API key · ok")


async def test_a_quoted_key_is_not_kept_with_the_limit(office: Office) -> None:
    office.hire("account-one", "account-two")
    letter = Letter()
    asked = await office.asked(letter)
    await office.next(letter, Refused(401, {}, f"Received API Key = fake-{asked}".encode()))
    office.ledger.close()
    assert f"= fake-{asked}" not in office.path.read_text()
    assert "Received API Key" in office.path.read_text()


async def test_a_list_of_models_says_nothing_about_a_quota(office: Office) -> None:
    office.hire("a", "b")
    letter = Letter()
    limited = await office.asked(letter)
    await office.next(letter, WEEK)
    relayed = Letter()
    relayed.model = "*"
    office.now += 45 * 60 * 1000
    for _ in range(3):
        await office.next(relayed)
        office.attempts.accepted(relayed)
    lines = {line.split(" · ")[0]: line for line in office.ledger.describe()}
    assert "window" in lines[limited]


async def test_a_file_goes_to_the_account_whose_host_takes_files(office: Office) -> None:
    office.hire("a", "b", b={"provider": "openrouter"})
    for _ in range(3):
        assert await office.asked(Letter(Demands(files=True))) == "b"
    assert {await office.asked(Letter()) for _ in range(2)} == {"a", "b"}


async def test_a_file_waits_for_nobody_whose_host_does_not_take_it(office: Office) -> None:
    office.hire("a", "b", b={"provider": "openrouter"})
    letter = Letter(Demands(files=True))
    assert await office.asked(letter) == "b"
    decision = await office.next(letter, Refused(500, {}, b"boom"))
    assert isinstance(decision, GiveUp)
    assert decision.error.message == "boom"


async def test_what_no_host_takes_is_asked_of_all(office: Office) -> None:
    office.hire("a", "b")
    letters = [Letter(Demands(audio=True)) for _ in range(2)]
    assert {await office.asked(letter) for letter in letters} == {"a", "b"}
    first = office.attempts.first_dialect("m", Demands(audio=True))
    assert first.profile.name == "generic"


# Accounts whose requests are made ready first ----------------------------------------------------


class Tired(AccountTrouble):
    """The web chat needs an hour, or is to be asked once more."""

    status = 429

    def __init__(self, *, again: bool = False) -> None:
        super().__init__("tired")
        self.again = again

    def verdict(self, now: int) -> Verdict:
        return Verdict("window", now + 3_600_000, self.message)


class NoReader:
    def feed(self, data: bytes) -> list[ChatChunk | Failure | EndOfAnswer]:
        return []

    def end(self) -> list[ChatChunk | Failure | EndOfAnswer]:
        return []

    def rest(self) -> list[ChatChunk | Failure | EndOfAnswer]:
        return []


class Ready:
    def __init__(self, account: str, trouble: AccountTrouble | None) -> None:
        self.send = Send(account, "https", "chat.qwen.ai", 443, "/x", (), b"body")
        self.reader = NoReader()
        self.trouble = trouble
        self.endings: list[Outcome | None] = []

    def ended(self, outcome: Outcome | None) -> AccountTrouble | None:
        self.endings.append(outcome)
        return self.trouble


class Kitchen:
    """A preparer that takes its time, and may fail."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.troubles: list[AccountTrouble] = []
        self.answers: list[AccountTrouble | None] = []
        self.made: list[Ready] = []
        self.cancelled = 0

    async def prepare(self, chat: ChatRequest, account: Account) -> Ready:
        assert chat.model == "web-chat"
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.troubles:
            raise self.troubles.pop(0)
        ready = Ready(account.name, self.answers.pop(0) if self.answers else None)
        self.made.append(ready)
        return ready


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
def diner(tmp_path: Path, kitchen: Kitchen) -> Iterator[Office]:
    """Its first account is a web chat, its second one has a key."""
    opened = Office(tmp_path, kitchen)
    opened.settings = Settings(rotation_strategy="sequential", max_rate_limit_wait_seconds=60)
    opened.path.write_text(json.dumps({"version": 1, "accounts": [WEB, KEY]}))
    yield opened
    opened.ledger.close()


WEB = {"name": "web", "kind": "web_chat"}
KEY = {"name": "key", "apiKey": "fake-key", "baseUrl": "http://127.0.0.1:81/v1"}


async def test_what_was_made_ready_is_sent_and_read_in_its_own_way(
    diner: Office, kitchen: Kitchen
) -> None:
    letter = Letter()
    assert await diner.next(letter) is kitchen.made[0].send
    assert letter.reader is kitchen.made[0].reader


async def test_an_attempt_that_failed_is_ended_and_the_account_pauses(
    diner: Office, kitchen: Kitchen
) -> None:
    kitchen.answers = [Tired()]
    letter = Letter()
    await diner.next(letter)
    assert await diner.asked(letter, BURST) == "key"
    assert kitchen.made[0].endings == [BURST]
    assert await diner.asked(Letter()) == "key"
    (limited, _) = diner.ledger.accounts()
    assert diner.ledger.pool.view(limited).cooldowns["*"].reason == "window"


async def test_an_account_that_cannot_be_made_ready_pauses(diner: Office, kitchen: Kitchen) -> None:
    kitchen.troubles = [Tired()]
    assert await diner.asked(Letter()) == "key"
    assert await diner.asked(Letter()) == "key"
    assert kitchen.made == []


async def test_trouble_that_a_second_try_mends_costs_the_account_nothing(
    diner: Office, kitchen: Kitchen
) -> None:
    kitchen.answers = [Tired(again=True)]
    letter = Letter()
    await diner.next(letter)
    assert await diner.asked(letter, BURST) == "web"
    assert [ready.endings for ready in kitchen.made] == [[BURST], []]
    assert await diner.asked(Letter()) == "web"


async def test_the_only_account_says_itself_what_is_wrong(diner: Office, kitchen: Kitchen) -> None:
    diner.path.write_text(json.dumps({"version": 1, "accounts": [WEB]}))
    kitchen.troubles = [Tired()]
    decision = await diner.next(Letter())
    assert isinstance(decision, GiveUp)
    assert (decision.error.status, decision.error.message) == (429, "tired")


async def test_nobody_waits_for_what_takes_long_while_another_account_is_free(
    diner: Office, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_mitm.attempts.PATIENCE_S", 0.01)
    kitchen.open.clear()
    assert await diner.asked(Letter()) == "key"
    await asyncio.sleep(0)
    assert kitchen.cancelled == 1


async def test_the_only_account_is_waited_for(
    diner: Office, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_mitm.attempts.PATIENCE_S", 0.01)
    diner.path.write_text(json.dumps({"version": 1, "accounts": [WEB]}))
    kitchen.open.clear()
    letter = Letter()
    assert isinstance(await diner.next(letter), Wait)
    kitchen.open.set()
    await asyncio.sleep(0)
    assert await diner.asked(letter) == "web"


async def test_a_client_that_leaves_stops_what_is_being_made_ready(
    diner: Office, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen_mitm.attempts.PATIENCE_S", 0.01)
    diner.path.write_text(json.dumps({"version": 1, "accounts": [WEB]}))
    kitchen.open.clear()
    letter = Letter()
    await diner.next(letter)
    diner.attempts.ended(letter, None, 0)
    await asyncio.sleep(0)
    assert kitchen.cancelled == 1


async def test_the_end_of_a_request_ends_its_last_attempt(diner: Office, kitchen: Kitchen) -> None:
    letter = Letter()
    await diner.next(letter)
    diner.attempts.accepted(letter)
    diner.attempts.ended(letter, None, 7)
    assert kitchen.made[0].endings == [None]


async def test_an_answer_that_broke_off_says_what_it_means_for_the_account(
    diner: Office, kitchen: Kitchen
) -> None:
    kitchen.answers = [Tired()]
    letter = Letter()
    await diner.next(letter)
    diner.attempts.accepted(letter)
    diner.attempts.ended(letter, Failure("tired"), 7)
    assert await diner.asked(Letter()) == "key"


async def test_the_account_says_which_api_its_host_is_asked_by(office: Office) -> None:
    native = {"provider": "openrouter", "wire": "responses"}
    office.hire(
        "a", "b", "c", a=native, b={"provider": "openrouter"}, c={**native, "provider": "portal"}
    )
    wires = {}
    for _ in range(3):
        decision = await office.next(Letter())
        assert isinstance(decision, Send)
        wires[decision.account] = decision.body.decode().partition(" ")[2]
    assert wires == {"a": "responses", "b": "chat", "c": "chat"}
