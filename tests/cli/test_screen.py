from __future__ import annotations

import io
import os
import pty
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from qwen_mitm.cli.screen import Screen


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """The far end of a terminal, and a stream to it."""
    far, near = pty.openpty()
    with os.fdopen(near, "w") as stream:
        yield far, stream
    os.close(far)


def read_until(far: int, end: bytes) -> list[str]:
    seen = b""
    while not seen.endswith(end):
        piece = os.read(far, 1024)
        assert piece, seen
        seen += piece
    return seen.decode().splitlines()


def test_lines_wait_while_a_program_has_the_terminal_to_itself(
    terminal: tuple[int, TextIO],
) -> None:
    far, stream = terminal
    screen = Screen(quiet=False, stream=stream)
    before = termios.tcgetattr(stream)

    tty.setraw(stream)
    screen.turn("first")
    # What the program itself draws.
    stream.write("drawn ")
    stream.flush()
    assert read_until(far, b"drawn ") == ["drawn "]
    termios.tcsetattr(stream, termios.TCSANOW, before)
    screen.turn("second")

    assert read_until(far, b"second\r\n") == ["qwen-mitm: first", "qwen-mitm: second"]


def test_of_many_lines_that_waited_the_last_are_shown_and_the_log_has_all(
    terminal: tuple[int, TextIO],
) -> None:
    far, stream = terminal
    log = io.StringIO()
    screen = Screen(quiet=False, stream=stream, log=log)
    tty.setraw(stream)

    for number in range(50):
        screen.turn(f"turn {number}")
    screen.release()

    shown = read_until(far, b"turn 49\n")
    assert shown[0] == "qwen-mitm: 30 lines before these are left out"
    assert shown[1] == "qwen-mitm: turn 30"
    assert shown[-1] == "qwen-mitm: turn 49"
    assert len(log.getvalue().splitlines()) == 50


def test_quiet_keeps_warnings_and_the_log() -> None:
    stream, log = io.StringIO(), io.StringIO()
    screen = Screen(quiet=True, stream=stream, log=log)

    screen.turn("a turn")
    screen.say("a warning")

    assert stream.getvalue() == "qwen-mitm: a warning\n"
    assert log.getvalue() == "a turn\na warning\n"


def test_what_a_terminal_would_obey_is_not_passed_on() -> None:
    stream = io.StringIO()

    Screen(quiet=False, stream=stream).say("model \x1b[2J name")

    assert "\x1b" not in stream.getvalue()


def test_a_stream_that_nobody_reads_does_no_harm(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    try:
        Screen(quiet=False, stream=stream).say("hello")
    finally:
        with pytest.raises(BrokenPipeError):
            stream.close()
