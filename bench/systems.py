"""The systems under test, and the fake upstream and the load generator beside them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trustme
from mitmproxy.certs import CertStore
from pydantic import BaseModel

from bench.jobs import Failed, Paced, Route, Series
from bench.processes import LOOPBACK, free_port, listening, process, running
from bench.workloads import UPSTREAM_KEY, Api
from qwen_mitm.cli.launch import Launch

type Program = Literal["mitmdump", "mitmweb"]
type Mode = Literal["reverse", "connect"]
MODES: tuple[Mode, ...] = ("reverse", "connect")

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 60.0
# Where clients of the addon send their requests; the name need not resolve, the account decides.
PORTAL = "portal.qwen.ai"
CLIENT_KEY = "client-key-that-stays-here"


class BenchError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class System:
    name: str
    script: Path | None
    """None is no proxy at all: the upstream itself, to show that it is not the bottleneck."""
    api: Api = "chat"


DIRECT = "direct"
YARDSTICK = "pass"
SUBJECT = "bridge"
SYSTEMS = {
    system.name: system
    for system in (
        System(DIRECT, None),
        System(YARDSTICK, ROOT / "bench/addons/pass_through.py"),
        System("naive", ROOT / "bench/addons/naive.py"),
        System(SUBJECT, ROOT / "addon/main.py", api="responses"),
    )
}


@dataclass(frozen=True, slots=True)
class Lane:
    """One system, entered one way."""

    system: System
    mode: Mode
    route: Route
    pid: int | None


class Bench:
    """All processes of one run, as a context manager; `folder` holds their files."""

    def __init__(self, folder: Path, *, pinned: bool = True) -> None:
        self._folder = folder
        self._confdir = folder / "confdir"
        self._home = folder / "home"
        self._ca = folder / "upstream-ca.pem"
        self._stack = ExitStack()
        self._started = 0
        # Systems on one core, what drives them on the others: they do not take turns then.
        cores = sorted(os.sched_getaffinity(0))
        self._system_cores, self._driver_cores = cores[:1], cores[1:] or cores
        if not pinned:
            self._system_cores = self._driver_cores = cores
        self.lanes: list[Lane] = []

    def __enter__(self) -> "Bench":
        with ExitStack() as stack:
            self._stack = stack
            self._home.mkdir()
            certificate, key = self._certificates()
            # Before the proxies start, each of which would make one.
            CertStore.from_store(self._confdir, "mitmproxy", 2048)
            upstream = self._driver("bench.upstream", str(certificate), str(key))
            assert upstream.stdout
            line = upstream.stdout.readline()
            if not line:
                raise BenchError(self._complaint("the fake upstream did not start", "upstream"))
            self._ports: dict[str, int] = json.loads(line)
            self._load = self._driver("bench.load")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, systems: list[System], modes: tuple[Mode, ...]) -> None:
        for mode in modes:
            for system in systems:
                self.lanes.append(self._stack.enter_context(self._lane(system, mode)))
        for lane in self.lanes:
            self._wait_for(lane)

    @contextmanager
    def fresh(self, lane: Lane, program: Program = "mitmdump") -> Iterator[Lane]:
        """The same lane in a process of its own that has served nothing yet."""
        with self._lane(lane.system, lane.mode, program) as other:
            self._wait_for(other)
            yield other

    def run[R: BaseModel](self, job: Series | Paced, result: type[R]) -> R:
        assert self._load.stdin
        assert self._load.stdout
        try:
            self._load.stdin.write(job.model_dump_json() + "\n")
            self._load.stdin.flush()
            line = self._load.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError(self._complaint("the load generator ended by itself", "load"))
        if line.startswith('{"error":'):
            raise BenchError(Failed.model_validate_json(line).error)
        return result.model_validate_json(line)

    def launch(self) -> Launch:
        """The subject in reverse mode, as `qwen-mitm run` starts it."""
        upstream = f"https://{LOOPBACK}:{self._ports['tls']}"
        account = {"QWEN_API_KEY": UPSTREAM_KEY, "QWEN_API_BASE_URL": f"{upstream}/v1"}
        return Launch(
            mode=f"reverse:{upstream}",
            options=[
                f"confdir={self._confdir}",
                f"ssl_verify_upstream_trusted_ca={self._ca}",
                f"qwen_hosts={upstream}",
                "qwen_quiet_mode=true",
            ],
            env=self._environment() | account,
            folder=self._home,
        )

    def route_at(self, port: int) -> Route:
        """To a subject in reverse mode."""
        return self._route(SYSTEMS[SUBJECT], "reverse", port)

    def logs(self) -> dict[str, str]:
        """What the processes complained of, by name."""
        texts = {log.stem: log.read_text().strip() for log in sorted(self._folder.glob("*.log"))}
        return {name: text for name, text in texts.items() if text}

    def _certificates(self) -> tuple[Path, Path]:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._ca)
        leaf = authority.issue_cert(LOOPBACK)
        certificate, key = self._folder / "upstream.pem", self._folder / "upstream.key"
        for i, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(certificate, append=bool(i))
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def _driver(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        log = self._folder / f"{module.removeprefix('bench.')}.log"
        child = process(
            [sys.executable, "-m", module, *arguments],
            env=self._environment(),
            cwd=ROOT,
            log=log,
        )
        started = self._stack.enter_context(child)
        os.sched_setaffinity(started.pid, self._driver_cores)
        return started

    def _environment(self) -> dict[str, str]:
        """Nothing of the user's: no settings, no accounts, no proxies."""
        names = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
        home = dict.fromkeys(names, str(self._home))
        return home | {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    @contextmanager
    def _lane(self, system: System, mode: Mode, program: Program = "mitmdump") -> Iterator[Lane]:
        if system.script is None:
            yield Lane(system, mode, self._direct_route(mode), None)
            return
        port = free_port()
        account = {
            "QWEN_API_KEY": UPSTREAM_KEY,
            "QWEN_API_BASE_URL": f"https://{LOOPBACK}:{self._ports['tls']}/v1",
        }
        self._started += 1
        log = self._folder / f"{system.name}-{mode}-{self._started}.log"
        with process(
            [*self._command(program), *self._arguments(system, system.script, mode, port)],
            env=self._environment() | account,
            cwd=self._home,
            log=log,
            talks=False,
        ) as child:
            yield Lane(system, mode, self._route(system, mode, port), child.pid)
            if child.poll() is not None:
                raise BenchError(self._complaint(f"{system.name} ended by itself", log.stem))

    def _command(self, program: Program) -> list[str]:
        command = [str(Path(sys.executable).with_name(program))]
        if program == "mitmweb":
            command += ["--no-web-open-browser", "--web-port", str(free_port())]
        return command

    def _arguments(self, system: System, script: Path, mode: Mode, port: int) -> list[str]:
        arguments = [
            *("-q", "--listen-host", LOOPBACK, "-p", str(port), "-s", str(script)),
            *("--set", f"confdir={self._confdir}"),
            *("--set", f"ssl_verify_upstream_trusted_ca={self._ca}"),
        ]
        if mode == "reverse":
            upstream = f"https://{LOOPBACK}:{self._ports['tls']}"
            arguments += ["--mode", f"reverse:{upstream}"]
            if system.api == "responses":
                arguments += ["--set", f"qwen_hosts={upstream}"]
        return arguments

    def _direct_route(self, mode: Mode) -> Route:
        tls = mode == "connect"
        port = self._ports["tls" if tls else "plain"]
        return Route(
            host=LOOPBACK,
            port=port,
            path="/v1/chat/completions",
            authority=f"{LOOPBACK}:{port}",
            api="chat",
            bearer=UPSTREAM_KEY,
            tls_name=LOOPBACK if tls else None,
            ca=str(self._ca),
        )

    def _route(self, system: System, mode: Mode, port: int) -> Route:
        ours = system.api == "responses"
        route = Route(
            host=LOOPBACK,
            port=port,
            path="/v1/responses" if ours else "/v1/chat/completions",
            authority=f"{LOOPBACK}:{port}",
            api=system.api,
            bearer=CLIENT_KEY if ours else UPSTREAM_KEY,
        )
        if mode == "reverse":
            return route
        name, tls_port = (PORTAL, 443) if ours else (LOOPBACK, self._ports["tls"])
        return route.model_copy(
            update={
                "connect": True,
                "authority": f"{name}:{tls_port}",
                "tls_name": name,
                "ca": str(self._confdir / "mitmproxy-ca-cert.pem"),
            }
        )

    def _wait_for(self, lane: Lane) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not listening(lane.route.host, lane.route.port):
            gone = lane.pid is not None and not running(lane.pid)
            if gone or time.monotonic() > deadline:
                message = f"{lane.system.name} ({lane.mode}) did not start"
                raise BenchError(self._complaint(message, f"{lane.system.name}-*"))
            time.sleep(0.05)
        if lane.pid is not None:
            # Not before: starting up uses all cores.
            os.sched_setaffinity(lane.pid, self._system_cores)

    def _complaint(self, message: str, log: str) -> str:
        texts = [path.read_text()[-2000:] for path in sorted(self._folder.glob(f"{log}.log"))]
        return "\n".join([message, *texts])
