from qwen_mitm.accounts.homes import IDLE_AFTER, MOST_CONVERSATIONS, Homes

NOW = 1795176000000


def test_a_conversation_is_where_it_settled_last() -> None:
    homes = Homes()
    assert homes.of("x", NOW) is None
    homes.settle("x", "a", NOW)
    homes.settle("x", "b", NOW)
    assert homes.of("x", NOW) == "b"
    assert (homes.count("a"), homes.count("b")) == (0, 1)


def test_a_conversation_that_is_idle_is_forgotten_and_one_that_goes_on_is_not() -> None:
    homes = Homes()
    homes.settle("idle", "a", NOW)
    homes.settle("busy", "a", NOW)
    assert homes.of("busy", NOW + IDLE_AFTER - 1) == "a"
    assert homes.of("busy", NOW + IDLE_AFTER) == "a"
    assert homes.of("idle", NOW + IDLE_AFTER) is None
    assert homes.count("a") == 1


def test_the_conversation_that_was_silent_longest_makes_room() -> None:
    homes = Homes()
    for number in range(MOST_CONVERSATIONS):
        homes.settle(str(number), "a", NOW)
    homes.of("0", NOW)
    homes.settle("new", "b", NOW)
    assert homes.of("0", NOW) == "a"
    assert homes.of("1", NOW) is None
    assert homes.count("a") == MOST_CONVERSATIONS - 1
