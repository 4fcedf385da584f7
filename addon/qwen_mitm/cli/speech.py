"""How the commands speak: to people, and to programs with ``--json``.

Results are on standard output; questions, progress and errors on standard error. With ``--json``
standard output has JSON alone, one document a line.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from qwen_mitm.accounts.importers import ImportFailed
from qwen_mitm.errors import BridgeError
from qwen_mitm.oauth.errors import OAuthError
from qwen_mitm.settings import SettingsError

FAILED = 1
INTERRUPTED = 130
#: Wide enough for every table; files and pipes have no width of their own.
_NO_TERMINAL_WIDTH = 240

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Complaint(Exception):
    """What keeps a command from its end, in a sentence for a person."""


def in_a_sentence(error: OSError) -> str:
    """What the system says of a file."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        # os.getcwd() alone asks for no file by its name.
        return "The current folder is not there any more. Change to one that is."
    said = error.strerror or str(error)
    return f"{error.filename}: {said}." if error.filename else f"{said}."


def clean(text: str) -> str:
    """Without what a terminal would obey; other programs and servers wrote some of it."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _console(stream: TextIO) -> Console:
    if isinstance(stream, io.TextIOWrapper):
        # A terminal that has no such letters gets question marks.
        stream.reconfigure(errors="replace")
    width = None if stream.isatty() else _NO_TERMINAL_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


class Speech:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)

    def say(self, result: RenderableType) -> None:
        """A result for people."""
        if not self.as_json:
            self._print(self._out, result)

    def note(self, remark: RenderableType, style: str = "") -> None:
        """What is beside the result."""
        self._print(self._err, remark, style)

    def answer(self, document: dict[str, Any]) -> None:
        """A result for programs."""
        if self.as_json:
            typer.echo(json.dumps(document, ensure_ascii=True))

    @property
    def can_show_pictures(self) -> bool:
        encoding = getattr(sys.stderr, "encoding", None) or ""
        return sys.stderr.isatty() and encoding.lower().replace("-", "").startswith("utf")

    @staticmethod
    def can_ask() -> bool:
        return sys.stdin.isatty()

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show that something goes on, where there is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        with self._err.status(Text(clean(what))):
            yield

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Errors become sentences and exit statuses."""
        try:
            yield
        except (Complaint, BridgeError, OAuthError, ImportFailed, SettingsError) as error:
            self.fail(str(error))
        except OSError as error:
            self.fail(in_a_sentence(error))
        except (KeyboardInterrupt, typer.Abort):
            self.note("\nStopped.")
            raise typer.Exit(INTERRUPTED) from None

    def fail(self, message: str) -> None:
        """End the command.

        Raises:
            typer.Exit: always.
        """
        self.note(message, "red")
        self.answer({"error": clean(message)})
        raise typer.Exit(FAILED)

    def _print(self, console: Console, what: RenderableType, style: str = "") -> None:
        if isinstance(what, str):
            what = Text(clean(what), style)
        # Addresses and paths are copied from here.
        console.print(what, soft_wrap=isinstance(what, Text))
