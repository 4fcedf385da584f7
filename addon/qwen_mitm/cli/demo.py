"""The main job, shown on this machine: a client, mitmproxy, and a Qwen that runs here."""

from __future__ import annotations

import importlib.metadata
import io
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from qwen_mitm.simulator import SimulatorProcess

from .children import DemoFailure, ProxyProcess, client_lines, client_settings, running_proxy
from .demo_turns import TURNS, Narrator

_INTERRUPTED = 130
_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")

_NEXT = """
[bold]What now, with a real account[/]

1. Add an account (README.md, Accounts), and start the proxy:
     .venv/bin/qwen-mitm login
     scripts/run
2. In another terminal, start a program that speaks the Responses API:
     export HTTPS_PROXY=http://127.0.0.1:8080
     export SSL_CERT_FILE=~/.mitmproxy/mitmproxy-ca-cert.pem
     export OPENAI_BASE_URL=https://portal.qwen.ai/v1 OPENAI_API_KEY=anything
   README.md configures OpenCode and Codex, certs/README.md says what other programs need.
"""


def run() -> int:
    """Play the demo; the exit status, 0 when everything worked."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no Chinese gets question marks.
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="qwen-mitm-demo-") as home:
            _play(console, Path(home))
    except (DemoFailure, TimeoutError, RuntimeError, OSError) as failure:
        console.print(f"\n[bold red]The demo failed:[/] {escape(str(failure))}")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped, with all that was started.")
        return _INTERRUPTED
    console.print(_NEXT, end="")
    return 0


def _play(console: Console, home: Path) -> None:
    client = f"openai {_client_version()}"
    console.print(
        "[bold]qwen-mitm demo[/]: the official openai client streams from a Chat Completions "
        "upstream.\nNo account and no network: the upstream is a simulator on this machine.\n"
    )
    with SimulatorProcess() as simulator, running_proxy(simulator, home) as proxy:
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
    console.print("\n[bold green]All of it worked.[/] Everything that was started is stopped.")


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
    proxy: ProxyProcess,
    client: str,
    settings: dict[str, str],
) -> None:
    console.print(f"upstream   {simulator.base_url}, the simulator, in place of Qwen")
    console.print(f"proxy      {proxy.url}, mitmdump -s addon/main.py")
    console.print(f"client     {client}, a program of its own that is told only")
    for name, value in settings.items():
        console.print(f"             {name}={value}", markup=False)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ending signals leave the blocks that stop the children, as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)]
    previous = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
