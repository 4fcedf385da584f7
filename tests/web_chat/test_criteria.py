"""The table in README.md names tests that there are."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = (HERE / "README.md").read_text("utf-8")
FILES = {
    "e2e": HERE.parent / "e2e" / "test_web_chat.py",
    "cli": HERE.parent / "cli" / "test_web_chat.py",
}


@pytest.mark.parametrize("criterion", [f"P{number}" for number in range(1, 11)])
def test_each_criterion_has_a_row(criterion: str) -> None:
    assert f"| {criterion} |" in TABLE


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([\w.]+::\w+)`", TABLE))))
def test_each_test_that_is_named_exists(named: str) -> None:
    file, _, test = named.partition("::")
    source = FILES.get(file, HERE / file).read_text("utf-8")
    assert re.search(rf"^(?:async )?def {test}\(", source, re.MULTILINE)
