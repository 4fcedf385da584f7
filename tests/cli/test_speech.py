from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import Runner


@pytest.mark.parametrize("words", [("accounts",), ("doctor",), ("run", "--simulator", "true")])
def test_a_folder_that_is_gone_is_told_in_a_sentence(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()

    done = subprocess.run(
        [
            "sh",
            "-c",
            'rmdir "$PWD" && exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "qwen_mitm.cli",
            *words,
        ],
        env=Runner(tmp_path, tmp_path).environment({"PWD": str(folder)}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "The current folder is not there any more. Change to one that is.\n"
