"""`qwen-mitm run`: the proxy, and a command that goes through it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from qwen_mitm.accounts.store import AccountStore, accounts_path
from qwen_mitm.clients.environment import Way, no_proxy
from qwen_mitm.clients.models import Model
from qwen_mitm.reports import Remark, Report, RequestRefused, TurnEnded
from qwen_mitm.settings import OPTION_PREFIX, Settings, Source, ambient_sources, merge

from .bundle import trust_files
from .client_setup import Setup, set_up
from .command import CommandNotStarted, run_command
from .endings import Ended, ending_signals_raise
from .env import printable
from .launch import Launch, LaunchedProxy, how_it_ended, launched
from .log_file import LogFile, opened
from .offer import accounts_in_use, claimed_base_url, offered, provider_of
from .places import ProxyFailure, why_not_free
from .screen import Screen
from .shells import Shell, assignments
from .speech import FAILED, Complaint, Speech
from .tally import Tally
from .workers import Workers, launched_workers, workers_of

_MODES = re.compile(r"regular|(?:upstream|reverse):.+")
SIMULATED_KEY = "simulated-account-key"
_NO_ACCOUNT = (
    "There is no account yet. `qwen-mitm login` adds one; `qwen-mitm run --simulator` tries it "
    "without: a simulator on this machine answers in place of Qwen."
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the person asked for."""

    command: Sequence[str]
    port: int
    workers: str
    web: bool
    mode: str
    model: str | None
    quiet: bool
    verbose: bool
    simulator: bool
    options: Sequence[str]
    flows: Path | None

    def settings(self, env: Mapping[str, str]) -> Settings:
        """Those that the proxy will have."""
        pairs = (option.partition("=") for option in self.options)
        ours = {
            name.removeprefix(OPTION_PREFIX): value
            for name, _, value in pairs
            if name.startswith(OPTION_PREFIX)
        }
        return merge([*ambient_sources(env, Path.cwd()), Source("--set", ours)])


@dataclass
class Events:
    """What the proxy reports while the command runs."""

    screen: Screen
    tally: Tally = field(default_factory=Tally)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, report: Report) -> None:
        """Called from a thread for each proxy."""
        with self._lock:
            match report:
                case TurnEnded():
                    self.tally.add(report)
                    self.screen.turn(report.line)
                case RequestRefused():
                    self.tally.refused += 1
                    self.screen.turn(report.line)
                case Remark():
                    self.screen.say(report.text.removeprefix("qwen-mitm: "))

    def proxy_ended(self, status: int, log: str) -> None:
        how = how_it_ended(status)
        self.screen.say(f"the proxy {how}; all requests fail now. It said last:\n{log.rstrip()}")


def run(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="The program to run, with its arguments.", show_default=False),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the proxy listens; 0: any free port.")
    ] = 0,
    workers: Annotated[
        str, typer.Option(help="So many processes share the port; auto: one for each core.")
    ] = "1",
    web: Annotated[bool, typer.Option("--web", help="mitmweb, to look at each request.")] = False,
    model: Annotated[str | None, typer.Option(help="The model that the program uses.")] = None,
    simulator: Annotated[
        bool, typer.Option("--simulator", help="Ask a simulator on this machine; no account.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line per turn.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is set.")] = False,
    mode: Annotated[
        str, typer.Option(help="regular, upstream:http://... or reverse:https://...")
    ] = "regular",
    accounts_file: Annotated[Path | None, typer.Option(help="Another account file.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="An option, as name=value; repeatable.")
    ] = None,
    flows: Annotated[
        Path | None, typer.Option("--keep-flows", "-w", help="Save all flows to this file.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="Write the proxy's whole log to this file.")
    ] = None,
) -> None:
    """Start the proxy, and a program that goes through it: qwen-mitm run -- opencode."""
    chosen = [*(options or [])]
    if accounts_file:
        chosen.append(f"{OPTION_PREFIX}accounts_file={accounts_file.absolute()}")
    wish = Wish(
        command=command or [],
        port=port,
        workers=workers,
        web=web,
        mode=mode,
        model=model,
        quiet=quiet,
        verbose=verbose,
        simulator=simulator,
        options=chosen,
        flows=flows,
    )
    speech = Speech(False)
    with speech.reporting():
        try:
            with ending_signals_raise(), opened(log) as log_file:
                status = _session(wish, log_file)
        except CommandNotStarted as failure:
            speech.note(str(failure), "red")
            raise typer.Exit(failure.status) from None
        except ProxyFailure as failure:
            raise Complaint(str(failure)) from None
        except Ended as end:
            raise typer.Exit(end.status) from None
    # All is over; an impatient Ctrl-C would only make Python complain of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise typer.Exit(status)


def _session(wish: Wish, log: LogFile | None) -> int:
    workers = workers_of(wish.workers, web=wish.web)
    screen = Screen(quiet=wish.quiet, log=log)
    events = Events(screen)
    with (
        _account_env(wish) as env,
        tempfile.TemporaryDirectory(prefix="qwen-mitm-run-") as folder,
    ):
        settings = wish.settings(env)
        models = _models(wish, settings, env)
        try:
            with _proxy(_launch(wish, env, events), workers, log) as proxy:
                status = _with_proxy(wish, proxy, settings, models, Path(folder), screen)
        finally:
            screen.release()
    for line in events.tally.lines():
        screen.say(line)
    if log and log.problem:
        screen.say(f"the file of --log is not whole: {log.problem}")
    return status


def _proxy(
    launch: Launch, workers: int, log: LogFile | None
) -> AbstractContextManager[LaunchedProxy | Workers]:
    return launched_workers(launch, workers, log) if workers > 1 else launched(launch, log)


@contextmanager
def _account_env(wish: Wish) -> Iterator[dict[str, str]]:
    """The proxy's environment, with the simulator as its one account if that is wanted."""
    env = dict(os.environ)
    if not wish.simulator:
        yield env
        return
    # Half of the time that all other imports take.
    from qwen_mitm.simulator import SimulatorProcess

    with SimulatorProcess("--plain") as simulator:
        account = {"QWEN_API_KEY": SIMULATED_KEY, "QWEN_API_BASE_URL": simulator.base_url}
        yield env | account


def _models(wish: Wish, settings: Settings, env: Mapping[str, str]) -> Sequence[Model]:
    """The models to tell of; none: only the person knows them.

    Raises:
        Complaint: there is no account for the command.
    """
    wanted = [wish.model] if wish.model else []
    if wish.simulator:
        return offered(settings, (), wanted)
    accounts = accounts_in_use(settings, AccountStore(accounts_path(settings, env)), env)
    if not accounts and wish.command:
        raise Complaint(_NO_ACCOUNT)
    return offered(settings, accounts, wanted)


def _launch(wish: Wish, env: Mapping[str, str], events: Events) -> Launch:
    if not _MODES.fullmatch(wish.mode):
        raise Complaint("--mode is regular, upstream:http://HOST:PORT or reverse:https://HOST.")
    if wish.port and (why := why_not_free(wish.port)):
        raise Complaint(f"Port {wish.port} cannot be used: {why}. Without --port a free one is.")
    return Launch(
        web=wish.web,
        port=wish.port,
        mode=wish.mode,
        options=wish.options,
        flows=wish.flows,
        env=env,
        on_report=events.take,
        on_end=events.proxy_ended,
    )


def _with_proxy(
    wish: Wish,
    proxy: LaunchedProxy | Workers,
    settings: Settings,
    models: Sequence[Model],
    folder: Path,
    screen: Screen,
) -> int:
    way = _way(wish, proxy, settings)
    _, left_out = no_proxy(os.environ, way.hosts)
    if left_out and way.proxy:
        screen.say(f"left out of NO_PROXY, as it leads past the proxy: {', '.join(left_out)}")
    if proxy.ready.web:
        screen.say(f"mitmweb is at {proxy.ready.web}")
    setup = set_up(
        wish.command,
        os.environ,
        way=way,
        trust=trust_files(folder, Path(proxy.ready.ca), os.environ),
        provider=provider_of(settings, way.base_url, models),
        chosen=wish.model is not None,
        folder=folder,
    )
    if wish.verbose:
        _explain(proxy, setup, screen)
    if wish.command:
        return run_command(setup.words, setup.env)
    return _in_the_foreground(proxy, setup, screen)


def _way(wish: Wish, proxy: LaunchedProxy | Workers, settings: Settings) -> Way:
    if wish.mode.startswith("reverse:"):
        return Way(proxy=None, base_url=f"{proxy.url}/v1")
    return Way(proxy=proxy.url, base_url=claimed_base_url(settings), hosts=proxy.ready.hosts)


def _explain(proxy: LaunchedProxy | Workers, setup: Setup, screen: Screen) -> None:
    screen.say(f"the proxy is at {proxy.url}, ready after {proxy.started_in_s:.2f} s")
    for name, value in printable(setup.changed).items():
        screen.say(f"  {name}={value}")
    if setup.words:
        screen.say(f"  {shlex.join(setup.words)}")


def _in_the_foreground(proxy: LaunchedProxy | Workers, setup: Setup, screen: Screen) -> int:
    screen.say(f"the proxy is at {proxy.url}. In the terminal of your program:")
    typer.echo(assignments(Shell.sh, printable(setup.changed)))
    screen.say("Ctrl-C ends it.")
    try:
        return proxy.wait() or FAILED
    except Ended:
        return 0
