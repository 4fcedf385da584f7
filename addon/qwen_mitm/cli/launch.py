"""mitmdump or mitmweb with the addon, in a process that ends with the block that started it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qwen_mitm.reports import (
    LISTENER_VARIABLE,
    REPORT,
    VARIABLE,
    WORKER_VARIABLE,
    Ready,
    Report,
)
from qwen_mitm.shared_port import SharedPort

from .log_file import LogFile
from .places import ProxyFailure, authority, check_authority, free_port

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


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several proxies that share a port."""

    number: int
    count: int
    port: SharedPort
    replaces: bool = False
    """One with this number that has ended."""


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
    flows: Path | None = None
    """Where to save them; with workers each has a file, with its number behind a dot."""
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path | None = None
    worker: Worker | None = None
    on_report: Callable[[Report], None] = _no_report
    on_end: Callable[[int, str], None] = _no_end
    """It ended by itself: its status, and the end of its log."""

    def command(self) -> list[str]:
        name = "mitmweb" if self.web else "mitmdump"
        program = f"from mitmproxy.tools.main import {name}; {name}()"
        if self.worker:
            program = "from qwen_mitm.shared_port import main; main()"
        words = [*_PROGRAM, program]
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
        return [*words, *self._saving()]

    def environment(self) -> dict[str, str]:
        """Without what ties it to us."""
        more = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        if self.worker:
            more[WORKER_VARIABLE] = f"{self.worker.number}/{self.worker.count}"
        if self.descriptors():
            more[LISTENER_VARIABLE] = str(*self.descriptors())
        return {**self.env, **more}

    def _saving(self) -> list[str]:
        if self.flows is None:
            return []
        if self.worker is None:
            return ["-w", str(self.flows)]
        appending = "+" if self.worker.replaces else ""
        return ["-w", f"{appending}{self.flows}.{self.worker.number}"]

    def descriptors(self) -> tuple[int, ...]:
        """What it inherits of ours."""
        listener = self.worker.port.listener if self.worker else None
        return () if listener is None else (listener,)


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

    def ask_to_end(self) -> None:
        """Once; whoever asks twice is in a hurry."""
        if self._stopping:
            return
        self._stopping = True
        with contextlib.suppress(OSError):
            if self._connection:
                self._connection.shutdown(socket.SHUT_WR)
            else:
                self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, wait until all that it reports is here, and force it if it does not."""
        self.ask_to_end()
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
            env={**self._launch.environment(), VARIABLE: f"{port}/{self._word}"},
            pass_fds=self._launch.descriptors(),
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
    check_authority(authority(launch.options))
    proxy = LaunchedProxy(launch, log)
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        proxy.stop()


def how_it_ended(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"has ended with status {status}"
