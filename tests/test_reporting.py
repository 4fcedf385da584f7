from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from qwen_mitm.reporting import Reports, reports_to_starter
from qwen_mitm.reports import REPORT, VARIABLE, Remark


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        yield ours, theirs


def test_warnings_of_the_log_arrive_as_remarks_one_line_each(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    logger = logging.getLogger("tests.reporting")
    handler = Reports(ours)
    logger.addHandler(handler)
    try:
        logger.info("not worth it")
        logger.warning("two\nlines of %s", "words")
    finally:
        logger.removeHandler(handler)

    ours.shutdown(socket.SHUT_WR)
    with theirs.makefile() as lines:
        (line,) = lines
    assert REPORT.validate_json(line) == Remark(text="two\nlines of words")


def test_a_starter_that_ends_is_noticed_and_further_reports_go_nowhere(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reports, ended = Reports(ours), threading.Event()
    reports.when_the_starter_ends(ended.set)

    theirs.close()

    assert ended.wait(5)
    for _ in range(3):
        reports.send(Remark(text="nobody hears this"))


def test_nobody_is_called_unless_the_environment_says_whom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    reports_to_starter.cache_clear()

    assert reports_to_starter() is None


def test_the_starter_is_called_with_its_word_and_the_word_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports_to_starter.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(VARIABLE, f"{server.getsockname()[1]}/fake-word")
        reports = reports_to_starter()
        assert reports
        assert reports is reports_to_starter()
        logging.getLogger().removeHandler(reports)
        caller, _ = server.accept()
        with caller:
            reports.send(Remark(text="hello"))
            with caller.makefile() as lines:
                assert next(lines) == "fake-word\n"
                assert REPORT.validate_json(next(lines)) == Remark(text="hello")
        reports.close()
    reports_to_starter.cache_clear()
