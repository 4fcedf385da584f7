"""Assignments of environment variables, to be pasted into a shell."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Mapping


class Shell(enum.StrEnum):
    sh = "sh"
    fish = "fish"
    powershell = "powershell"


def assignments(shell: Shell, variables: Mapping[str, str]) -> str:
    return "\n".join(_assignment(shell, name, value) for name, value in variables.items())


def _assignment(shell: Shell, name: str, value: str) -> str:
    match shell:
        case Shell.sh:
            return f"export {name}={shlex.quote(value)}"
        case Shell.fish:
            # In single quotes fish reads \\ and \' alone.
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"set -gx {name} '{escaped}'"
        case Shell.powershell:
            doubled = value.replace("'", "''")
            return f"$env:{name} = '{doubled}'"
