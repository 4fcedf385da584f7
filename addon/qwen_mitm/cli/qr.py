"""An address as a picture that a telephone can read, in half blocks."""

from __future__ import annotations

import segno
from rich.text import Text

_BORDER = 2
#: Upper half dark, lower half dark.
_BLOCKS = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
# Readers want dark on light, whatever colours the terminal has.
_STYLE = "#000000 on #ffffff"


def picture(address: str) -> Text:
    """Two rows of the code make one line of text."""
    code = segno.make(address, error="l", micro=False)
    rows = [[int(dark) for dark in row] for row in code.matrix_iter(border=_BORDER)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    text = Text()
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        line = "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
        text.append(line, _STYLE)
        text.append("\n")
    return text
