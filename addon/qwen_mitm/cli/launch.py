"""mitmdump or mitmweb with the addon, in a process that ends with the block that started it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qwen_mitm.reports import REPORT, VARIABLE, Ready, Report

from .log_file import LogFile

SCRIPT = Path(__file__).parent / "mitmproxy_script" / "qwen_mitm_addon.py"

#: Without the folder where it is started on the path of imports (-P): that is the person's.
_PROGRAM = [sys.executable, "-P", "-c"]
_WEB_PORT = 8081
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
#: So often is looked whether there is still somebody who might call.
_GLANCE_S = 0.1
_KEPT_LINES = 200
_TOLD_LINES = 12
_IN_A_TRACEBACK = re.compile(r"Traceback \(|\s")


class ProxyFailure(Exception):
    """The proxy did not start; the message says why, or has the end of its log."""


def _no_report(report: Report) -> None: ...


def _no_end(status: int, log: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start, and whom to tell. The callbacks are called from threads."""

    web: bool = False
    port: int = 0
    mode: str = "regular"
    options: Sequence[str] = ()
    """``name=value``."""
    arguments: Sequence[str] = ()
    """More words for mitmproxy."""
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path | None = None
    on_report: Callable[[Report], None] = _no_report
    on_end: Callable[[int, str], None] = _no_end
    """It ended by itself: its status, and the end of its log."""

    def command(self) -> list[str]:
        name = "mitmweb" if self.web else "mitmdump"
        words = [*_PROGRAM, f"from mitmproxy.tools.main import {name}; {name}()"]
        words += ["--listen-host", "127.0.0.1", "-p", str(self.port), "--mode", self.mode]
        words += ["-s", str(SCRIPT)]
        options = list(self.options)
        if self.web:
            set_already = any(option.startswith("web_port=") for option in options)
            options += ["web_open_browser=false", "web_host=127.0.0.1"]
            # It has no way to say which free port it took.
            options += [] if set_already else [f"web_port={free_port(_WEB_PORT)}"]
        else:
            words += ["--flow-detail", "0"]
        for option in options:
            words += ["--set", option]
        return [*words, *self.arguments]


class LaunchedProxy:
    """A proxy that was started; ``ready`` says where it is."""

    ready: Ready
    started_in_s: float

    def __init__(self, launch: Launch, log: LogFile | None) -> None:
        self._launch = launch
        self._log_file = log
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._changed = threading.Condition()
        self._ready: Ready | None = None
        self._stopping = self._ended = self._told = False
        self._connection: socket.socket | None = None
        self._word = secrets.token_hex(16)
        self._server = socket.create_server(("127.0.0.1", 0))
        # Closing it wakes nobody who waits for a caller.
        self._server.settimeout(_GLANCE_S)
        self._process = self._started()
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_log, self._read_reports)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ready.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """The last lines of what it printed."""
        with self._changed:
            told = [line for line in self._lines if not _IN_A_TRACEBACK.match(line)]
        return "".join(told[-_TOLD_LINES:])

    def wait(self) -> int:
        """Its exit status, when it ends."""
        return self._process.wait()

    def stop(self) -> None:
        """Ask it to end, wait until all that it reports is here, and force it if it does not."""
        self._stopping = True
        with contextlib.suppress(OSError):
            if self._connection:
                self._connection.shutdown(socket.SHUT_WR)
            else:
                self._process.terminate()
        try:
            status = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = 0
            self._process.kill()
            self._process.wait()
        self._server.close()
        for thread in self._threads:
            thread.join(_STOP_TIMEOUT_S)
        if status:
            # It had died, perhaps in the moment in which it was asked.
            self._tell_end(status)

    def _tell_end(self, status: int) -> None:
        if self._ready and not self._told:
            self._told = True
            self._launch.on_end(status, self.log)

    def wait_until_ready(self) -> None:
        began = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended, _READY_TIMEOUT_S)
        if self._ready is None:
            raise ProxyFailure(f"The proxy did not start:\n{self.log}")
        self.ready = self._ready
        self.started_in_s = time.monotonic() - began

    def _started(self) -> subprocess.Popen[str]:
        port = self._server.getsockname()[1]
        return subprocess.Popen(
            self._launch.command(),
            env={
                **self._launch.env,
                VARIABLE: f"{port}/{self._word}",
                "PYTHONUNBUFFERED": "1",
                "PYTHONIOENCODING": "utf-8",
            },
            cwd=self._launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C in the terminal is for the command; the proxy must outlive it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def _read_log(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    self._lines.append(line)
                if self._log_file:
                    self._log_file.write(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        # Nobody calls any more.
        self._server.close()
        status = self._process.wait()
        if not self._stopping:
            self._tell_end(status)

    def _read_reports(self) -> None:
        connection = self._called()
        if connection is None:
            return
        self._connection = connection
        with connection, connection.makefile("rb") as lines:
            lines.readline()
            for line in lines:
                report = REPORT.validate_json(line)
                if isinstance(report, Ready):
                    with self._changed:
                        self._ready = report
                        self._changed.notify_all()
                else:
                    self._launch.on_report(report)

    def _called(self) -> socket.socket | None:
        """The connection of the proxy, told from others by its word."""
        expected = self._word.encode() + b"\n"
        while True:
            try:
                caller, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return None
            caller.settimeout(_STOP_TIMEOUT_S)
            with contextlib.suppress(OSError):
                said = caller.recv(
                    len(expected), socket.MSG_PEEK | getattr(socket, "MSG_WAITALL", 0)
                )
                if secrets.compare_digest(said, expected):
                    caller.settimeout(None)
                    return caller
            caller.close()


@contextmanager
def launched(launch: Launch, log: LogFile | None = None) -> Iterator[LaunchedProxy]:
    """A proxy that is ready; ``log`` gets all that it prints.

    Raises:
        ProxyFailure: it did not start.
    """
    _check_confdir(launch.options)
    proxy = LaunchedProxy(launch, log)
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        proxy.stop()


def _check_confdir(options: Sequence[str]) -> None:
    """mitmproxy's own words for it are a traceback."""
    named = [o.removeprefix("confdir=") for o in options if o.startswith("confdir=")]
    folder = Path(os.path.expanduser(named[-1] if named else "~/.mitmproxy"))
    key = folder / "mitmproxy-ca.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if key.exists():
            key.open("rb").close()
        else:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ProxyFailure(
            f"The proxy's certificate authority is kept in {folder}, and that cannot be used: "
            f"{error.strerror}. Name another folder: --set confdir=FOLDER"
        ) from None


def free_port(wanted: int) -> int:
    """The wanted one, or another when that is taken."""
    if not why_not_free(wanted):
        return wanted
    with socket.create_server(("127.0.0.1", 0)) as probe:
        found: int = probe.getsockname()[1]
        return found


def why_not_free(port: int) -> str:
    """Empty: a proxy may listen there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        # asyncio and socket.create_server put the address behind it.
        return os.strerror(error.errno) if error.errno else str(error)
    return ""
