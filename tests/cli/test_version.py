from __future__ import annotations

from typer.testing import CliRunner

from qwen_mitm import __version__
from qwen_mitm.cli import app


def test_the_version_is_told_without_a_command() -> None:
    done = CliRunner().invoke(app, ["--version"])

    assert done.exit_code == 0
    assert done.stdout == f"qwen-mitm {__version__}\n"
