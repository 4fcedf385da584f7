"""The findings as a person reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.text import Text

from qwen_mitm.cli.speech import clean

from .check import Check, Status

_STYLES: dict[Status, str] = {
    "ok": "green",
    "warning": "yellow",
    "fault": "bold red",
    "not_checked": "dim",
}
_WIDTH = len("not checked")


def lines(checks: Iterable[Check]) -> list[Text]:
    """Two lines for what needs doing, one for the rest."""
    checks = list(checks)
    widest = max((len(check.id) for check in checks), default=0)
    found = []
    for check in checks:
        line = Text(f"{check.status.replace('_', ' '):<{_WIDTH}}", _STYLES[check.status])
        line.append(f"  {_one_line(check.id):<{widest}}", "bold")
        line.append(f"  {_one_line(check.message)}", "dim" if check.status == "not_checked" else "")
        found.append(line)
        if check.advice:
            found.append(Text(f"{'':<{_WIDTH + widest + 4}}→ {_one_line(check.advice)}"))
    return found


def summary(checks: Sequence[Check]) -> str:
    counts = Counter(check.status for check in checks)
    faults, warnings = counts["fault"], counts["warning"]
    if not faults and not warnings:
        return "All is well."
    words = [_counted(n, word) for n, word in ((faults, "fault"), (warnings, "warning")) if n]
    return f"{' and '.join(words)}." if faults else f"It should work; {' and '.join(words)}."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())
