"""The options as text, from their one declaration in settings.py."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import SecretStr

from qwen_mitm.settings import OPTION_PREFIX, Settings, env_name

_WIDTH = 88
_INDENT = " " * 4


@dataclass(frozen=True, slots=True)
class Row:
    option: str
    variable: str
    default: str
    meaning: str


def rows() -> list[Row]:
    """One row for each setting, in the order of declaration."""
    defaults = Settings()
    listed = []
    for field, info in Settings.model_fields.items():
        meaning = info.description or ""
        if get_origin(info.annotation) is Literal:
            meaning += f" One of: {', '.join(get_args(info.annotation))}."
        value = _shown(getattr(defaults, field))
        listed.append(Row(f"{OPTION_PREFIX}{field}", env_name(field), value, meaning))
    return listed


def markdown() -> str:
    lines = ["| option | environment | default | meaning |", "|---|---|---|---|"]
    for row in rows():
        default = f"`{row.default}`" if row.default else "empty"
        meaning = row.meaning.replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| `{row.option}` | `{row.variable}` | {default} | {meaning} |")
    return "\n".join(lines)


def plain() -> str:
    fill = textwrap.TextWrapper(_WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT).fill
    return "\n".join(
        f"{row.option}  {row.variable}  default: {row.default or 'empty'}\n{fill(row.meaning)}"
        for row in rows()
    )


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(str(one) for one in value)
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)
