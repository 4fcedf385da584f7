"""A real mitmdump with the addon, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "addon" / "main.py"
WITNESS = ROOT / "tests" / "e2e" / "witness" / "witness.py"

MITMDUMP = (str(Path(sys.executable).with_name("mitmdump")),)

_LISTENING = re.compile(r"listening at (?:http://)?127\.0\.0\.1:(\d+)")
_READY_TIMEOUT_S = 30.0


class ProxyDidNotStart(Exception):
    """mitmdump ended; the text is what it printed."""


class Proxy:
    """Starts mitmdump on a free loopback port and stops it at the end.

    ``options`` are mitmproxy's ``--set`` options. ``confdir`` holds mitmproxy's CA, and
    ``home`` stands in for the user's home, so that nobody's own configuration is read.
    """

    def __init__(
        self,
        home: Path,
        confdir: Path,
        *,
        mode: str | None = None,
        options: Mapping[str, str | Sequence[str]] | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        scripts: Sequence[Path] = (WITNESS, MAIN),
        program: Sequence[str] = MITMDUMP,
    ) -> None:
        self.home = home
        self.ca = confdir / "mitmproxy-ca-cert.pem"
        self.port = 0
        self._lines: list[str] = []
        self._changed = threading.Condition()
        words = [*program, "-p", "0"]
        words += ["--mode", mode] if mode else []
        for script in scripts:
            words += ["-s", str(script)]
        for name, value in {"confdir": str(confdir), **(options or {})}.items():
            for one in [value] if isinstance(value, str) else value:
                words += ["--set", f"{name}={one}"]
        self._command = [*words, *arguments]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("QWEN_")}
        self._env = {
            **inherited,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / ".local" / "state"),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for_log(self, pattern: str, timeout_s: float = 10.0) -> str:
        """The log, once it matches; raises TimeoutError."""
        wanted = re.compile(pattern)
        return self._wait(lambda log: bool(wanted.search(log)), repr(pattern), timeout_s)

    def wait_for_count(self, text: str, count: int, timeout_s: float = 10.0) -> str:
        """The log, once it has the text so often; raises TimeoutError."""
        what = f"{count} times {text!r}"
        return self._wait(lambda log: log.count(text) >= count, what, timeout_s)

    def _wait(self, found: Callable[[str], bool], what: str, timeout_s: float) -> str:
        with self._changed:
            self._changed.wait_for(lambda: found("".join(self._lines)) or self._ended, timeout_s)
            log = "".join(self._lines)
            if not found(log):
                raise TimeoutError(f"{what} is not in the log:\n{log}")
            return log

    def __enter__(self) -> Self:
        self._ended = False
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            log = self.wait_for_log(_LISTENING.pattern, _READY_TIMEOUT_S)
        except TimeoutError as error:
            self.stop()
            raise ProxyDidNotStart(str(error)) from None
        found = _LISTENING.search(log)
        assert found
        self.port = int(found[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end, as a person does with Ctrl-C; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(10)
        if self._process.stdout:
            self._process.stdout.close()
        return status

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit status, when it ends by itself."""
        status = self._process.wait(timeout_s)
        self._reader.join(10)
        return status

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
