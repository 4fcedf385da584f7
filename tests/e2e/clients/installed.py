"""The real clients that scripts/clients has put into a cache folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.proxy import ROOT

HERE = Path(__file__).parent
REQUIRED = os.environ.get("QWEN_MITM_CLIENTS") == "required"


class NotInstalled(Exception):
    """The text says why."""


@functools.cache
def folder() -> Path:
    """Raises NotInstalled."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NotInstalled(f"{program} is not there")
    found = subprocess.run(
        [ROOT / "scripts" / "clients", "--find"],
        env=os.environ | {"QWEN_MITM_VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise NotInstalled("scripts/clients has not been run")
    return Path(found.stdout.strip())


def pinned() -> dict[str, str]:
    """Client and version, as package.json and requirements.txt have them."""
    versions: dict[str, str] = json.loads((HERE / "package.json").read_text("utf-8"))[
        "dependencies"
    ]
    for line in (HERE / "requirements.txt").read_text("utf-8").splitlines():
        if "==" in line:
            name, _, version = line.partition("==")
            versions[name] = version
    return versions
