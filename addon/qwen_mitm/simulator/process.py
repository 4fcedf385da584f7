"""The simulator in a process of its own, driven from synchronous code."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

_STOP_TIMEOUT = 5.0
# The package is found in the child process even where it is not installed.
_ROOT = str(Path(__file__).parents[2])


def _given_paths() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


class SimulatorProcess:
    """Starts ``python -m qwen_mitm.simulator`` and stops it at the end.

    ``options`` are passed on (``--plain``, ``--no-http2`` …). The process also ends when its
    standard input closes, so it does not outlive a parent that is killed.
    """

    def __init__(self, *options: str, directory: Path | None = None) -> None:
        self._options = options
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._client = httpx.Client(trust_env=False)
        self.port = 0
        self.url = ""
        self.ca_pem: Path | None = None

    def __enter__(self) -> Self:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="qwen-simulator-")
        folder = self._directory or Path(self._temporary.name if self._temporary else ".")
        command = [sys.executable, "-m", "qwen_mitm.simulator", "--until-stdin-closes"]
        self._process = subprocess.Popen(
            [*command, "--port", "0", "--directory", str(folder), *self._options],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, *_given_paths()])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in the terminal is for whoever uses it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except BaseException:
            self._stop()
            raise
        if not line:
            self._stop()
            raise RuntimeError("the simulator did not start; its reason is on standard error")
        ready = json.loads(line)
        self.port, self.url = ready["port"], ready["url"]
        self.ca_pem = Path(ready["ca"]) if ready["ca"] else None
        verify = ssl.create_default_context(cafile=self.ca_pem) if self.ca_pem else True
        self._client = httpx.Client(
            base_url=f"{self.url}/_simulator/", verify=verify, trust_env=False, timeout=30
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()
        self._stop()

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return f"{self.url}/v1"

    def requests(
        self, *, received: int = 0, closed: int = 0, timeout: float = 10.0
    ) -> list[dict[str, Any]]:
        """What arrived, after waiting until so many are received and so many answers are over.

        Raises TimeoutError. The fields are those of ReceivedRequest, and ``json``.
        """
        wanted = {"received": received, "closed": closed, "timeout": timeout}
        answer = self._client.get("requests", params=wanted)
        listed: list[dict[str, Any]] = answer.json()["requests"]
        if answer.status_code == 408:
            raise TimeoutError(f"not in {timeout} s; received: {listed}")
        return listed

    def reached(self, gate: str = "gate", timeout: float = 10.0) -> None:
        """Wait until an answer stands at the gate; raises TimeoutError."""
        if self._client.get(f"gates/{gate}", params={"timeout": timeout}).status_code == 408:
            raise TimeoutError(f"no answer stands at {gate!r} after {timeout} s")

    def release(self, gate: str = "gate") -> None:
        self._client.post(f"release/{gate}").raise_for_status()

    def script(self, lines: Iterable[str | Mapping[str, Any]]) -> None:
        self._client.post("script", json=list(lines)).raise_for_status()

    def accounts(self, accounts: Mapping[str, str]) -> None:
        """Bearer to account name; nobody else may ask from now on. Empty: everybody may."""
        self._client.post("accounts", json=dict(accounts)).raise_for_status()

    def oauth(self, what: str, **document: Any) -> dict[str, Any]:
        """POST to the control endpoint of the authorization server: ``login``, ``approve`` …"""
        answer = self._client.post(f"oauth/{what}", json=document).raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def web(self, what: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST to the control endpoint of the web chat: ``logins``, ``script`` …"""
        answer = self._client.post(f"web/{what}", json=document or {}).raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def chats(self) -> list[dict[str, Any]]:
        """The chats of the web chat: ``id``, ``account``, ``turns``, ``overlaps`` …"""
        listed: list[dict[str, Any]] = self._client.get("web/chats").json()["chats"]
        return listed

    def redeems(self) -> list[dict[str, Any]]:
        """The requests for tokens so far: ``grant``, ``account``, ``at``, ``outcome``."""
        listed: list[dict[str, Any]] = self._client.get("oauth/redeems").json()["redeems"]
        return listed

    def reset(self) -> None:
        self._client.post("reset").raise_for_status()

    def _stop(self) -> None:
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.communicate(timeout=_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if self._temporary is not None:
            self._temporary.cleanup()
