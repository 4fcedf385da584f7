"""Secrets come from a file or from standard input, never from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from .speech import Complaint


def read_key_file(file: str) -> str:
    """The text of a file; ``-`` is standard input.

    Raises:
        Complaint: it cannot be read.
    """
    try:
        if file == "-":
            return sys.stdin.read().removeprefix("\ufeff")
        # Editors of Windows begin a text with a byte order mark.
        return Path(file).expanduser().read_text("utf-8-sig")
    except RuntimeError:
        raise Complaint(f"{file} is in a home folder that there is not.") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Complaint(f"{file} cannot be read: {reason}.") from None
