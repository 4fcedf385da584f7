"""Several proxies on one port, for machines with several cores."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Final

from qwen_mitm.reports import Ready, Remark, Report
from qwen_mitm.shared_port import SharedPort, kept_port

from .launch import Launch, LaunchedProxy, Worker, how_it_ended
from .log_file import LogFile
from .places import ProxyFailure, authority, check_authority
from .speech import Complaint

#: More than machines have cores; a mistyped number must not fill the memory.
MOST_WORKERS: Final = 64
#: One that ends this often within this time is left alone: it would only burn a core.
MOST_REPLACEMENTS: Final = 5
_WITHIN_S: Final = 60.0


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_of(wanted: str, *, web: bool) -> int:
    """The number that ``--workers`` means.

    Raises:
        Complaint: it means none, or none that works here.
    """
    if wanted == "auto":
        return 1 if web or sys.platform == "win32" else cores()
    if not wanted.isdecimal() or not 1 <= int(wanted) <= MOST_WORKERS:
        raise Complaint(f"--workers is a number from 1 to {MOST_WORKERS}, or auto.")
    if int(wanted) > 1 and web:
        raise Complaint("mitmweb shows the requests of its own process: --web goes with 1 worker.")
    if int(wanted) > 1 and sys.platform == "win32":
        raise Complaint("Windows lets no two processes listen at one port: --workers 1.")
    return int(wanted)


@dataclass
class _Place:
    """Of one worker after the other."""

    number: int
    proxy: LaunchedProxy | None = None
    is_starting: bool = True
    replaced_at: list[float] = field(default_factory=list)


class Workers:
    """They share a port. One that ends by itself is told of and replaced; its turns are lost."""

    ready: Ready
    started_in_s: float

    def __init__(self, launch: Launch, count: int, port: SharedPort, log: LogFile | None) -> None:
        self._launch = replace(launch, port=port.number)
        self._port = port
        self._log = log
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._ended: SimpleQueue[_Place | None] = SimpleQueue()
        self._all_gone = threading.Event()
        self._replacing = threading.Thread(target=self._replace_the_ended, daemon=True)
        self._replacing.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.number}"

    @property
    def pids(self) -> list[int]:
        return [place.proxy.pid for place in self._places if place.proxy]

    def start(self) -> None:
        """Returns when all of them are ready.

        Raises:
            ProxyFailure: one of them did not start.
        """
        began = time.monotonic()
        first, *others = self._places
        proxy = self._begin(first)
        # Two that make mitmproxy's authority at a time would make two.
        if not authority(self._launch.options).exists():
            proxy.wait_until_ready()
        begun = [(first, proxy), *((place, self._begin(place)) for place in others)]
        for place, one in begun:
            one.wait_until_ready()
            place.is_starting = False
        self.ready = proxy.ready
        self.started_in_s = time.monotonic() - began

    def wait(self) -> int:
        """An exit status, when all have ended and none is replaced any more."""
        self._all_gone.wait()
        return 1

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
        self._ended.put(None)
        running = [place.proxy for place in self._places if place.proxy]
        for proxy in running:
            proxy.ask_to_end()
        for proxy in running:
            proxy.stop()
        self._replacing.join()

    def _begin(self, place: _Place, *, replaces: bool = False) -> LaunchedProxy:
        worker = Worker(place.number, len(self._places), self._port, replaces)
        launch = replace(
            self._launch,
            worker=worker,
            on_report=partial(self._report, place),
            on_end=partial(self._tell_end, place),
        )
        with self._lock:
            if self._stopping:
                raise ProxyFailure("The workers are being stopped.")
            place.is_starting = True
            place.proxy = LaunchedProxy(launch, self._log)
            return place.proxy

    def _report(self, place: _Place, report: Report) -> None:
        if isinstance(report, Remark) and place.is_starting:
            # What is wrong with the installation each of them says.
            with self._lock:
                if report.text in self._said:
                    return
                self._said.add(report.text)
        self._launch.on_report(report)

    def _tell_end(self, place: _Place, status: int, log: str) -> None:
        assert place.proxy
        who = f"worker {place.number} of {len(self._places)} (process {place.proxy.pid})"
        self._say(
            f"{who} {how_it_ended(status)}; the turns that it was at are lost. "
            f"It said last:\n{log.rstrip()}"
        )
        self._ended.put(place)

    def _say(self, words: str) -> None:
        self._launch.on_report(Remark(text=words))

    def _replace_the_ended(self) -> None:
        while place := self._ended.get():
            while not self._stopping and not self._replaced(place):
                pass

    def _replaced(self, place: _Place) -> bool:
        """Whether there is nothing more to be done."""
        now = time.monotonic()
        place.replaced_at = [at for at in place.replaced_at if now - at < _WITHIN_S]
        if len(place.replaced_at) >= MOST_REPLACEMENTS:
            self._give_up(place)
            return True
        place.replaced_at.append(now)
        try:
            proxy = self._begin(place, replaces=True)
            proxy.wait_until_ready()
        except ProxyFailure:
            if place.proxy:
                place.proxy.stop()
            return False
        place.is_starting = False
        self._say(f"worker {place.number} runs again (process {proxy.pid})")
        return True

    def _give_up(self, place: _Place) -> None:
        gone = place.proxy
        place.proxy = None
        if any(other.proxy for other in self._places):
            self._say(f"worker {place.number} ends again and again; it is not started any more")
        elif gone:
            self._launch.on_end(1, gone.log)
            self._all_gone.set()


@contextmanager
def launched_workers(launch: Launch, count: int, log: LogFile | None = None) -> Iterator[Workers]:
    """So many proxies that are ready, on one port; ``log`` gets all that they print.

    Raises:
        ProxyFailure: one of them did not start.
    """
    check_authority(authority(launch.options))
    with ExitStack() as stack:
        try:
            port = stack.enter_context(kept_port(launch.port))
        except OSError as error:
            raise ProxyFailure(f"Port {launch.port} cannot be had: {error.strerror}.") from None
        workers = Workers(launch, count, port, log)
        stack.callback(workers.stop)
        workers.start()
        yield workers
