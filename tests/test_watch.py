from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_is_wrong_fails_a_test_that_looks_at_nothing() -> None:
    options = ["-p", "no:cacheprovider", "-rA", "tests/faulty_case.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=ROOT, capture_output=True, text=True
    )

    told = [line.partition(" - ")[0] for line in run.stdout.splitlines()]
    failed = {line for line in told if line.startswith("ERROR tests/")}
    assert run.returncode == 1, run.stdout
    assert failed == {
        "ERROR tests/faulty_case.py::test_a_bad_stream",
        "ERROR tests/faulty_case.py::test_a_bad_request",
    }
