import pytest
from pydantic import SecretStr

from qwen_mitm.accounts.cooldown import ALL_MODELS, Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.accounts.overlay import Overlay
from qwen_mitm.accounts.resets import DAY, HOUR, MINUTE, SECOND

NOW = 1795176000000
PLAIN = Account(name="work", api_key=SecretStr("fake"))


def limited(since: int, until: int | None = NOW + HOUR) -> Account:
    cooldown = Cooldown(until=until, reason="window", since=since)
    return PLAIN.model_copy(update={"cooldowns": {ALL_MODELS: cooldown}})


def learned(before: Account, after: Account) -> Overlay:
    overlay = Overlay()
    overlay.load((before,), NOW)
    overlay.put(before, after, NOW)
    return overlay


def test_what_was_learned_is_seen_at_once_and_after_another_change_on_disk() -> None:
    overlay = learned(PLAIN, limited(NOW))
    assert overlay.view(PLAIN).cooldowns
    renamed = PLAIN.model_copy(update={"provider": "vllm"})
    overlay.load((renamed,), NOW)
    assert overlay.view(renamed).cooldowns
    assert overlay.view(renamed).provider == "vllm"


def test_the_disk_wins_when_it_knows_as_much_or_more() -> None:
    overlay = learned(PLAIN, limited(NOW))
    overlay.load((limited(NOW),), NOW)
    overlay.load((PLAIN,), NOW)
    assert overlay.view(PLAIN).cooldowns == {}

    overlay = learned(PLAIN, limited(NOW))
    newer = limited(NOW + 1, NOW + MINUTE)
    overlay.load((newer,), NOW)
    assert overlay.view(newer) is newer


def test_a_cooldown_that_is_over_here_is_over_until_the_disk_has_a_newer_one() -> None:
    before = limited(NOW - HOUR)
    overlay = learned(before, PLAIN)
    overlay.load((before,), NOW)
    assert overlay.view(before).cooldowns == {}
    newer = limited(NOW + 1)
    overlay.load((newer,), NOW)
    assert overlay.view(newer).cooldowns


@pytest.mark.parametrize("until", [None, NOW + DAY])
def test_what_is_not_in_a_file_that_changed_long_after_was_cleared(until: int | None) -> None:
    overlay = learned(PLAIN, limited(NOW, until))
    overlay.load((PLAIN,), NOW + SECOND)
    assert overlay.view(PLAIN).cooldowns
    overlay.load((PLAIN,), NOW + MINUTE, writing=True)
    assert overlay.view(PLAIN).cooldowns
    overlay.load((PLAIN,), NOW + MINUTE)
    assert overlay.view(PLAIN) is PLAIN


def test_what_is_never_written_counts_until_it_is_over() -> None:
    cooldown = Cooldown(until=NOW + 2 * MINUTE, reason="transient", since=NOW)
    overlay = learned(PLAIN, PLAIN.model_copy(update={"cooldowns": {ALL_MODELS: cooldown}}))
    overlay.load((PLAIN,), NOW + MINUTE)
    assert overlay.view(PLAIN).cooldowns == {ALL_MODELS: cooldown}


def test_what_is_long_over_and_who_is_gone_are_forgotten() -> None:
    overlay = learned(PLAIN, limited(NOW))
    overlay.load((PLAIN,), NOW + DAY)
    assert overlay.view(PLAIN) is PLAIN

    overlay = learned(PLAIN, limited(NOW))
    overlay.load((), NOW)
    assert overlay.disk("work") is None
    overlay.load((PLAIN,), NOW)
    assert overlay.view(PLAIN) is PLAIN


def test_it_can_be_told_to_forget() -> None:
    overlay = learned(PLAIN, limited(NOW))
    overlay.forget("work")
    assert overlay.view(PLAIN) is PLAIN
