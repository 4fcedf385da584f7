"""Running real programs as people do: an empty home, and no network but the proxy."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.clients import CLIENT_KEY
from tests.e2e.proxy import Proxy

BASE_URL = "https://portal.qwen.ai/v1"
#: An agent takes about three seconds, and two cores may have other work.
_PATIENCE_S = 90.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def shown(self) -> str:
        """All that a person sees."""
        return self.out + self.err


class Workshop:
    """A home and a folder to work in, for programs that reach the network through a proxy."""

    def __init__(self, installed: Path, home: Path, work: Path, proxy: Proxy) -> None:
        self.installed = installed
        self.home = home
        self.work = work
        self.proxy = proxy

    def run(
        self, command: Sequence[str | Path], env: Mapping[str, str], stdin: str | None = None
    ) -> Done:
        """Raises TimeoutError with what the program printed so far."""
        with subprocess.Popen(
            command,
            env={**self.env, **env},
            cwd=self.work,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            # What it starts ends with it.
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, _PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                raise TimeoutError(f"{command[0]} does not end:\n{out}\n{err}") from None
        return Done(process.returncode, _COLOUR.sub("", out), _COLOUR.sub("", err))

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "HTTPS_PROXY": self.proxy.url,
            "NO_PROXY": "localhost,127.0.0.1",
            "NODE_EXTRA_CA_CERTS": str(self.proxy.ca),
            "SSL_CERT_FILE": str(self.proxy.ca),
        }


class OpenCode:
    name = "opencode"

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def ask(self, prompt: str, *, model: str = "qwen3-coder-plus", thinking: bool = False) -> Done:
        command = [self._program, "run", "--model", f"qwen/{model}", "--title", "a test"]
        command += ["--thinking", "--variant", "high"] if thinking else []
        env = {
            "OPENCODE_CONFIG_CONTENT": json.dumps(self._config(model, thinking)),
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        }
        # As an argument it would be quoted.
        return self._workshop.run(command, env, stdin=prompt)

    def command(self, line: str) -> str:
        """The marker that makes the simulator run this in a shell."""
        return f"bash{json.dumps({'command': line, 'description': 'a test'})}"

    def write(self, path: Path, content: str) -> str:
        """The marker that makes the simulator write a file."""
        return f"write{json.dumps({'filePath': str(path), 'content': content})}"

    @property
    def _program(self) -> str:
        return str(self._workshop.installed / "node_modules/opencode-ai/bin/opencode.exe")

    def _config(self, model: str, thinking: bool) -> dict[str, Any]:
        limit = {"context": 1_000_000, "output": 65_536}
        described = {
            "tool_call": True,
            "reasoning": thinking,
            # For a Qwen it knows no efforts of its own.
            "variants": {"high": {"reasoningEffort": "high"}} if thinking else {},
            "limit": limit,
        }
        return {
            "provider": {
                "qwen": {
                    "npm": "@ai-sdk/openai",
                    "options": {"baseURL": BASE_URL, "apiKey": CLIENT_KEY},
                    "models": {model: described},
                }
            },
            "model": f"qwen/{model}",
            "small_model": f"qwen/{model}",
            "share": "disabled",
        }


class Codex:
    name = "codex"

    #: What a person has in config.toml, and what makes it run without one.
    SETTINGS = (
        "model_provider=qwen",
        f'model_providers.qwen={{name="Qwen",base_url="{BASE_URL}",env_key="FAKE_KEY",'
        'wire_api="responses"}',
        "approval_policy=never",
        "sandbox_mode=danger-full-access",
        "web_search=disabled",
        "check_for_update_on_startup=false",
        "analytics.enabled=false",
        "features.plugins=false",
        "features.goals=false",
        "features.multi_agent=false",
    )

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def ask(
        self,
        prompt: str,
        *,
        model: str = "qwen3-coder-plus",
        thinking: bool = False,
        settings: Sequence[str] = (),
        arguments: Sequence[str | Path] = (),
    ) -> Done:
        command: list[str | Path] = [self._workshop.installed / "node_modules/.bin/codex", "exec"]
        command += [*arguments, "--skip-git-repo-check", "--model", model]
        how = [*self.SETTINGS, *settings]
        if thinking:
            how += ["model_reasoning_effort=high", "model_reasoning_summary=auto"]
            how += ["model_supports_reasoning_summaries=true"]
        for setting in how:
            command += ["-c", setting]
        # The second is for its built-in provider.
        keys = {"FAKE_KEY": CLIENT_KEY, "CODEX_API_KEY": CLIENT_KEY}
        return self._workshop.run([*command, "--", prompt], keys)

    def command(self, line: str) -> str:
        """The marker that makes the simulator run this in a shell."""
        return f"exec_command{json.dumps({'cmd': line})}"

    def write(self, path: Path, content: str) -> str:
        """The marker that makes the simulator write a file."""
        return self.command(f"cat > '{path}' <<'END'\n{content}END\n")


type Agent = OpenCode | Codex


class Sdk:
    """A program of ours that asks with a library and tells what that made of the answer."""

    def __init__(self, workshop: Workshop, command: Sequence[str | Path], log: Path) -> None:
        env = {
            "OPENAI_BASE_URL": BASE_URL,
            "OPENAI_API_KEY": CLIENT_KEY,
            # It would be sent to api.openai.com.
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "PYTHONUTF8": "1",
        }
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                env={**workshop.env, **env},
                cwd=workshop.work,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def __call__(self, way: str, **wanted: Any) -> Any:
        """What the library made of it; raises AssertionError for an exception not of its own."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps([way, wanted]) + "\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], _PATIENCE_S)
        line = stdout.readline() if ready else ""
        assert line, self._log.read_text("utf-8")
        answer = json.loads(line)
        assert "bug" not in answer, answer["bug"]
        return answer
