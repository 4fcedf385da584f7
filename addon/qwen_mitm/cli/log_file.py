"""The file of ``--log``, which must not end a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from .speech import Complaint


class LogFile:
    """Lines are appended until that fails; ``problem`` then says why the rest is not there."""

    problem = ""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if self.problem:
            return
        try:
            self._file.write(text.encode("utf-8", "replace"))
        except OSError as error:
            self.problem = error.strerror or str(error)


@contextmanager
def opened(path: Path | None) -> Iterator[LogFile | None]:
    """
    Raises:
        Complaint: it cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        # Without a buffer: nothing is left to be written when the disk is full.
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise Complaint(f"{path} cannot be written: {error.strerror}.") from None
    with file:
        yield LogFile(file)
