from __future__ import annotations

from collections.abc import Iterator

import pytest

import tests.cases  # noqa: F401 - registers the profile before the command line names it
from tests.watch import WATCH, install

install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update",
        action="store_true",
        help="rewrite the expected.jsonl of the transcripts from what the code does now",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="rewrite the pictures of the README from what a browser shows now",
    )


@pytest.fixture(autouse=True)
def all_that_is_made_is_valid(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every stream of events and every Chat request obeys the checkers, or the test says why not:
    ``@pytest.mark.makes_invalid("reason")``."""
    WATCH.begin()
    yield
    # Those that run a whole proxy are judged by what went over the wires.
    if "all_traffic_is_valid" not in request.fixturenames:
        judge(request, WATCH.faults())


def judge(request: pytest.FixtureRequest, faults: list[str]) -> None:
    """Fails the test for these faults, unless its marker says that it wants them."""
    marker = request.node.get_closest_marker("makes_invalid")
    if marker is None:
        assert not faults, "\n".join(faults[:5])
    else:
        assert marker.args, "makes_invalid needs a reason"
        assert faults, "makes_invalid, but everything was valid"
