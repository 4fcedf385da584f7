"""Assignments of environment variables, to be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final, Literal

type Shell = Literal["sh", "fish", "powershell"]
SHELLS: Final = ("sh", "fish", "powershell")


def assignments(shell: Shell, variables: Mapping[str, str]) -> str:
    return "\n".join(_assignment(shell, name, value) for name, value in variables.items())


def _assignment(shell: Shell, name: str, value: str) -> str:
    match shell:
        case "sh":
            return f"export {name}={shlex.quote(value)}"
        case "fish":
            # In single quotes fish reads \\ and \' alone.
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"set -gx {name} '{escaped}'"
        case "powershell":
            doubled = value.replace("'", "''")
            return f"$env:{name} = '{doubled}'"
