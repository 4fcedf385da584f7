import pytest

from qwen_mitm.accounts.resets import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    first_of_month,
    midnight,
    monday,
    named_reset,
    retry_after,
)

# Friday 2026-11-20 12:00 UTC, which is 20:00 in China.
NOW = 1795176000 * SECOND


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7 * SECOND),
        ({"retry-after": " 0.5 "}, 500),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "999999999999999"}, 35 * DAY),
        ({"retry-after": "60", "retry-after-ms": "20"}, 20),
        ({"retry-after": "Fri, 20 Nov 2026 12:01:00 GMT"}, MINUTE),
        ({"retry-after": "Fri, 20 Nov 2026 12:01:00 -0000"}, MINUTE),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Fri, 99 Nov 2026 11:00:00 GMT"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 5000)}, 5000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW // 1000 + 5)}, 5000),
        ({"x-ratelimit-reset": "12"}, 12 * SECOND),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "12"}, None),
    ],
)
def test_headers_say_when_to_ask_again(headers: dict[str, str], wait: int | None) -> None:
    assert retry_after(headers, "", NOW) == (None if wait is None else NOW + wait)


def test_dates_are_read_by_the_upstreams_own_clock() -> None:
    headers = {
        "retry-after": "Fri, 20 Nov 2026 09:00:30 GMT",
        "date": "Fri, 20 Nov 2026 09:00:00 GMT",
    }
    assert retry_after(headers, "", NOW) == NOW + 30 * SECOND


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Please try again in 1.5s.", 1500),
        ("Please try again in 20 seconds", 20 * SECOND),
        ("Please retry after 2 minutes", 2 * MINUTE),
        ("Your quota will reset after 161h39m41s.", 161 * HOUR + 39 * MINUTE + 41 * SECOND),
        ("try again in 250ms", 250),
        ("please try again later", None),
        ("retry in a moment", None),
    ],
)
def test_words_say_when_to_ask_again(message: str, wait: int | None) -> None:
    assert retry_after({}, message, NOW) == (None if wait is None else NOW + wait)


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("quota exhausted and will reset at 2026-11-20 23:00", 3 * HOUR),
        ("will reset at 2026-11-20 23:00:00 UTC+8", 3 * HOUR),
        ("resets on 2026-11-20T23:00:00Z", 11 * HOUR),
        ("reset at 2026-11-20T23:00:00.000+08:00", 3 * HOUR),
        ("reset at 2026-13-45 99:00", None),
        ("reset at 2020-01-01 00:00", None),
        ("reset at 2036-01-01 00:00", None),
        ("no date", None),
    ],
)
def test_a_date_in_words_is_chinas_unless_it_says(message: str, wait: int | None) -> None:
    assert named_reset(message, NOW) == (None if wait is None else NOW + wait)


def test_the_calendar_is_chinas() -> None:
    assert midnight(NOW) == NOW + 4 * HOUR
    assert monday(NOW) == NOW + 2 * DAY + 4 * HOUR
    assert first_of_month(NOW) == NOW + 10 * DAY + 4 * HOUR


def test_a_reset_is_always_ahead() -> None:
    start_of_monday = monday(NOW)
    assert monday(start_of_monday) == start_of_monday + 7 * DAY
    assert monday(start_of_monday - 1) == start_of_monday
    first = first_of_month(NOW)
    assert first_of_month(first) == first + 31 * DAY
    assert midnight(first) == first + DAY
