from qwen_mitm.accounts.cooldown import Cooldown, DayUsage


def test_a_cooldown_is_over_at_its_end() -> None:
    cooldown = Cooldown(until=100, reason="window", since=0)
    assert not cooldown.is_over(99)
    assert cooldown.is_over(100)


def test_a_cooldown_without_an_end_is_never_over() -> None:
    assert not Cooldown(until=None, reason="spent", since=0).is_over(10**15)


def test_what_a_later_version_adds_is_kept() -> None:
    usage = DayUsage.model_validate({"date": "2026-01-01", "requests": 2, "cost": 1.5})
    assert usage.model_dump(by_alias=True) == {
        "date": "2026-01-01",
        "requests": 2,
        "tokens": 0,
        "cost": 1.5,
    }
