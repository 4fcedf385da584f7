"""The main job, shown on this machine: a client, mitmproxy, and a Qwen that runs here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from qwen_mitm.simulator import SimulatorProcess

from .children import DemoFailure, client_lines, client_settings, running_proxy
from .demo_turns import TURNS, Narrator
from .endings import Ended, ending_signals_raise
from .launch import LaunchedProxy
from .outside import show_in_browser
from .places import ProxyFailure
from .speech import INTERRUPTED

_NEXT = """
[bold]What now, with a real account[/]

     qwen-mitm login               adds one
     qwen-mitm run -- opencode     starts OpenCode with it; or codex, or any other program

In a clone of the repository qwen-mitm is .venv/bin/qwen-mitm.
"""


def run(*, web: bool = False) -> int:
    """Play the demo, with ``web`` in mitmweb too; the exit status, 0 when everything worked."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no Chinese gets question marks.
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, soft_wrap=True)
    try:
        with ending_signals_raise(), tempfile.TemporaryDirectory(prefix="qwen-mitm-demo-") as home:
            _play(console, Path(home), web)
    except (DemoFailure, ProxyFailure, TimeoutError, RuntimeError, OSError) as failure:
        console.print(f"\n[bold red]The demo failed:[/] {escape(str(failure))}")
        return 1
    except Ended:
        console.print("\nStopped, with all that was started.")
        return INTERRUPTED
    console.print(_NEXT, end="")
    return 0


def _play(console: Console, home: Path, web: bool) -> None:
    client = f"openai {_client_version()}"
    console.print(
        "[bold]qwen-mitm demo[/]: the official openai client streams from a Chat Completions "
        "upstream.\nNo account and no network: the upstream is a simulator on this machine.\n"
    )
    with SimulatorProcess() as simulator, running_proxy(simulator, home, web=web) as proxy:
        settings = client_settings(proxy, home)
        simulator.script([turn.pace for turn in TURNS])
        _introduce(console, simulator, proxy, client, settings)
        narrator = Narrator(console, simulator)
        try:
            with closing(client_lines(settings, home)) as lines:
                for line in lines:
                    narrator.hear(line)
        except DemoFailure as failure:
            raise DemoFailure(f"{failure}\nThe log of mitmdump:\n{proxy.log}") from None
        if narrator.finished != len(TURNS):
            raise DemoFailure(f"{narrator.finished} of {len(TURNS)} answers were completed.")
        if proxy.ready.web:
            _leave_open(console, proxy.ready.web)
    console.print("\n[bold green]All of it worked.[/] Everything that was started is stopped.")


def _leave_open(console: Console, address: str) -> None:
    """Until somebody has seen enough."""
    shown = show_in_browser(address)
    where = "your browser shows" if shown else "open"
    console.print(f"\nAll of it is in mitmweb: {where} {address}\nCtrl-C ends it.")
    with contextlib.suppress(Ended):
        threading.Event().wait()


def _client_version() -> str:
    try:
        return importlib.metadata.version("openai")
    except importlib.metadata.PackageNotFoundError:
        raise DemoFailure(
            "the openai client is not installed. Run scripts/setup, or install qwen-mitm[demo]."
        ) from None


def _introduce(
    console: Console,
    simulator: SimulatorProcess,
    proxy: LaunchedProxy,
    client: str,
    settings: dict[str, str],
) -> None:
    console.print(f"upstream   {simulator.base_url}, the simulator, in place of Qwen")
    console.print(
        f"proxy      {proxy.url}, {'mitmweb' if proxy.ready.web else 'mitmdump'} with the addon"
    )
    console.print(f"client     {client}, a program of its own that is told only")
    for name, value in settings.items():
        console.print(f"             {name}={value}", markup=False)
