import pytest

from qwen_mitm.web_chat.errors import CredentialsExpired, Unavailable, WebChatError
from qwen_mitm.web_chat.retry import RetryPolicy, retried

POLICY = RetryPolicy(most=3, first_s=1, longest_s=10)


class Host:
    """Fails with these errors in turn, and then works."""

    def __init__(self, *errors: WebChatError) -> None:
        self.errors = list(errors)
        self.asked = 0
        self.pauses: list[float] = []

    async def act(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "well"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def ask(self, chance: float = 1.0) -> str:
        return await retried(self.act, POLICY, sleep=self.sleep, random=lambda: chance)


def passing(retry_after: float | None = None) -> WebChatError:
    error = Unavailable("503", status=503)
    error.is_passing, error.retry_after = True, retry_after
    return error


async def test_what_passes_is_tried_again_with_growing_pauses() -> None:
    host = Host(passing(), passing(), passing())
    assert await host.ask() == "well"
    assert host.pauses == [1, 2, 4]


async def test_chance_takes_up_to_half_of_a_pause_away() -> None:
    host = Host(passing())
    await host.ask(chance=0.0)
    assert host.pauses == [0.5]


def test_a_pause_has_an_upper_bound() -> None:
    assert RetryPolicy(longest_s=10).pause(40, 1.0) == 10


async def test_after_the_last_try_the_error_is_told() -> None:
    host = Host(*(passing() for _ in range(9)))
    with pytest.raises(Unavailable):
        await host.ask()
    assert host.asked == 4


@pytest.mark.parametrize(
    "error", [CredentialsExpired("401"), Unavailable("500", status=500)], ids=["401", "500"]
)
async def test_what_does_not_pass_is_not_tried_again(error: WebChatError) -> None:
    host = Host(error)
    with pytest.raises(type(error)):
        await host.ask()
    assert (host.asked, host.pauses) == (1, [])


async def test_the_sites_own_pause_counts_when_it_is_longer() -> None:
    host = Host(passing(retry_after=7), passing(retry_after=0))
    await host.ask()
    assert host.pauses == [7, 2]


async def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    host = Host(passing(retry_after=11))
    with pytest.raises(Unavailable):
        await host.ask()
    assert host.pauses == []
