"""`qwen-mitm run` as a process of its own, with a home folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
_FOREIGN = ("QWEN_", "OPENAI_", "OPENCODE_", "CODEX_", "SSL_CERT", "NODE_", "XDG_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass
class Runner:
    """Starts it with an environment that has nothing of this machine's."""

    home: Path
    confdir: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN)
            and name.lower() not in _PROXIES
            and name not in _BUNDLES
        }
        path = os.pathsep.join([str(ROOT / "addon"), str(ROOT)])
        # OpenCode believes PWD.
        here = {"HOME": str(self.home), "PWD": str(self.home), "PYTHONPATH": path}
        return {**kept, **here, **self.env, **(extra or {})}

    def words(self, *words: str) -> list[str]:
        program = [sys.executable, "-m", "qwen_mitm.cli", "run"]
        return [*program, "--set", f"confdir={self.confdir}", *words]

    def run(self, *words: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            env=self.environment(extra),
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def start(self, *words: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words),
            env=self.environment(extra),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def python(program: str) -> list[str]:
    """A command that runs it."""
    return ["--", sys.executable, "-c", program]


#: Prints what it was given.
SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
ASK = """
import openai
client = openai.OpenAI(max_retries=0)
with client.responses.stream(model="qwen3-coder-plus", input="hello") as stream:
    stream.until_done()
    print(stream.get_final_response().output_text)
"""


def environment_in(output: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(output.splitlines()[-1])
    return found
