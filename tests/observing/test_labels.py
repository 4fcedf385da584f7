from qwen_mitm.observing.labels import OTHER, Labels


def test_the_number_of_different_names_is_bounded() -> None:
    labels = Labels(3)
    found = {labels.of(f"model-{i}") for i in range(100)}
    assert found == {"model-0", "model-1", "model-2", OTHER}
    assert labels.of("model-1") == "model-1"


def test_names_that_nobody_knows_take_no_place_until_they_are_known() -> None:
    labels = Labels(1)
    assert labels.of("typo", proven=False) == OTHER
    assert labels.of("real") == "real"
    assert labels.of("real", proven=False) == "real"


def test_a_name_that_is_too_long_is_no_label() -> None:
    assert Labels(3).of("x" * 10_000) == OTHER
