"""Run the simulator: prints one line of JSON when ready, ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

from .authority import MissingExtra
from .server import Simulator


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m qwen_mitm.simulator", description="A Qwen that runs on this machine."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--directory", type=Path, help="where ca.pem goes")
    parser.add_argument("--plain", action="store_true", help="HTTP without TLS")
    parser.add_argument("--no-http2", action="store_true", help="HTTP/1.1 alone")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def _run(options: argparse.Namespace, directory: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    async with Simulator(
        tls=not options.plain,
        http2=not options.no_http2,
        host=options.host,
        port=options.port,
        directory=directory,
    ) as simulator:
        ca = None if options.plain else str(simulator.ca_pem)
        print(json.dumps({"port": simulator.port, "ca": ca, "url": simulator.url}), flush=True)
        await stop.wait()
    if options.until_stdin_closes:
        loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    options = _arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="qwen-simulator-") as temporary:
            asyncio.run(_run(options, options.directory or Path(temporary)))
    except (MissingExtra, OSError) as error:
        sys.exit(f"cannot start the simulator: {error}")


if __name__ == "__main__":
    main()
