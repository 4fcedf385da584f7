from collections.abc import Sequence

import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.attempts import Attempts
from qwen_mitm.errors import BridgeError, NoUsableAccount, UpstreamRefused
from qwen_mitm.exchange import Broken, Decision, FailedAnswer, GiveUp, Outcome, Refused, Send
from qwen_mitm.providers import Profile
from qwen_mitm.settings import Settings
from qwen_mitm.wire.chat import Failure

WORK = Account(name="work", api_key=SecretStr("fake-key"), base_url="http://127.0.0.1:81/base/v1")


class Letter:
    """An outgoing request."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.tried: list[str] = []

    def target(self, base_path: str) -> str:
        return f"{base_path}/chat/completions"

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return [(b"accept", b"text/event-stream")]

    def body(self, profile: Profile) -> bytes:
        return profile.name.encode()

    def refusal(self, refused: Refused, max_retry_after: float) -> BridgeError:
        return UpstreamRefused("no", status=refused.status, type="x")


async def decide(letter: Letter, *accounts: Account) -> Decision:
    return await Attempts(lambda: accounts, Settings).next(letter)


async def test_the_account_decides_where_the_request_goes() -> None:
    decision = await decide(Letter(), WORK)

    assert isinstance(decision, Send)
    assert (decision.scheme, decision.host, decision.port) == ("http", "127.0.0.1", 81)
    assert decision.target == "/base/v1/chat/completions"
    assert (b"authorization", b"Bearer fake-key") in decision.headers


async def test_a_decision_does_not_show_its_bearer() -> None:
    assert "fake-key" not in repr(await decide(Letter(), WORK))


async def test_without_an_account_the_client_is_told() -> None:
    decision = await decide(Letter())
    assert isinstance(decision, GiveUp)
    assert isinstance(decision.error, NoUsableAccount)


async def test_the_upstreams_refusal_passes_through_with_its_status() -> None:
    letter = Letter()
    await decide(letter, WORK)
    letter.outcome = Refused(429, {}, b"")

    decision = await decide(letter, WORK)

    assert isinstance(decision, GiveUp)
    assert decision.error.status == 429


async def test_a_refusal_that_quotes_the_key_reaches_the_client_without_it() -> None:
    letter = Letter()
    await decide(letter, WORK)
    failure = Failure("Incorrect API key provided: fake-key", type="authentication_error")
    letter.outcome = FailedAnswer(failure)

    decision = await decide(letter, WORK)

    assert isinstance(decision, GiveUp)
    assert "fake-key" not in decision.error.message
    assert "'work'" in decision.error.message


async def test_a_stale_connection_costs_one_resend_and_no_more() -> None:
    letter = Letter()
    await decide(letter, WORK)
    letter.outcome = Broken("server closed connection", "head", reused=True)

    assert isinstance(await decide(letter, WORK), Send)
    assert isinstance(await decide(letter, WORK), GiveUp)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Broken("Connection refused", "connect"), 502),
        (Broken("server closed connection", "head"), 502),
        (Broken("nothing came for 2 s", "head", timed_out=True), 504),
        (FailedAnswer(Failure("boom", type="server_error")), 502),
        (FailedAnswer(Failure("slow down", type="x", code="rate_limit_exceeded")), 429),
    ],
)
async def test_a_failed_attempt_becomes_an_error_that_names_what_happened(
    outcome: Outcome, status: int
) -> None:
    letter = Letter()
    await decide(letter, WORK)
    letter.outcome = outcome

    decision = await decide(letter, WORK)

    assert isinstance(decision, GiveUp)
    assert decision.error.status == status
    if isinstance(outcome, Broken):
        assert "'work'" in decision.error.message
        assert outcome.message in decision.error.message
