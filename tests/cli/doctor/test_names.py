import pytest

from qwen_mitm.cli.doctor.names import unknown_names
from qwen_mitm.settings import Source


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("QWEN_HOST", "QWEN_HOSTS"),
        ("QWEN_ROTATION_STRATEGIE", "QWEN_ROTATION_STRATEGY"),
        ("QWEN_API_BASEURL", "QWEN_API_BASE_URL"),
        ("QWEN_WEATHER", None),
    ],
)
def test_a_name_that_means_nothing_gets_the_nearest(name: str, nearest: str | None) -> None:
    (found,) = unknown_names({name: "x"}, [])
    assert (found.name, found.nearest) == (name, nearest)


@pytest.mark.parametrize(
    "name", ["QWEN_HOSTS", "QWEN_API_KEY", "QWEN_MITM_PYTHON", "QWEN_CODE_X", "QWEN_DEBUG", "PATH"]
)
def test_known_names_and_those_of_others_are_none(name: str) -> None:
    assert list(unknown_names({name: "x"}, [])) == []


def test_keys_of_files_are_looked_at_but_for_those_of_the_plugin() -> None:
    file = Source("/qwen.json", {"rotation_stategy": "sticky", "health_score": {}})
    (found,) = unknown_names({}, [file])
    assert (found.name, found.where, found.nearest) == (
        "rotation_stategy",
        "/qwen.json",
        "rotation_strategy",
    )
