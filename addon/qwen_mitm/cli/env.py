"""`qwen-mitm env`: the environment of programs, for a proxy that runs already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from qwen_mitm.clients.environment import Trust, Way, for_sdks, no_proxy, through
from qwen_mitm.clients.provider import LOCAL_KEY_VARIABLE
from qwen_mitm.responses_file import state_home
from qwen_mitm.status import Status

from .bundle import trust_files
from .doctor import DEFAULT_PORT
from .doctor.connections import Place, ask_proxy
from .offer import base_url_of
from .shells import Shell, assignments
from .speech import Complaint, Speech


def show_environment(
    shell: Annotated[Shell, typer.Option(help="The shell that is to read it.")] = Shell.sh,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the proxy listens.")
    ] = DEFAULT_PORT,
) -> None:
    """Print what sends programs through a running proxy: eval "$(qwen-mitm env)"."""
    speech = Speech(False)
    with speech.reporting():
        status = ask_proxy(Place.of(f"http://127.0.0.1:{port}")).status
        if status is None:
            raise Complaint(
                f"No proxy of qwen-mitm answers at port {port}. Start it with scripts/run or "
                "qwen-mitm run, or name its --port."
            )
        way = way_through(status, port)
        _, left_out = no_proxy(os.environ, way.hosts)
        if left_out and way.proxy:
            speech.note(f"Left out of NO_PROXY, as it leads past the proxy: {', '.join(left_out)}")
        changed = through(os.environ, way, _lasting_files(Path(status.confdir)))
        changed |= for_sdks(os.environ, way)
        typer.echo(assignments(shell, printable(changed)))


def way_through(status: Status, port: int) -> Way:
    here = f"http://127.0.0.1:{port}"
    if any(mode.startswith("reverse:") for mode in status.modes):
        return Way(proxy=None, base_url=f"{here}/v1")
    return Way(proxy=here, base_url=base_url_of(status.hosts[0]), hosts=status.hosts)


def printable(changed: Mapping[str, str]) -> dict[str, str]:
    """Without the local key, which whoever reads this need not."""
    secret = os.environ.get(LOCAL_KEY_VARIABLE)
    return {name: value for name, value in changed.items() if not secret or value != secret}


def _lasting_files(confdir: Path) -> Trust:
    """In our own folder for state: the shell that is told of them outlives this command."""
    folder = state_home(os.environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return trust_files(folder, confdir / "mitmproxy-ca-cert.pem", os.environ)
    except OSError as error:
        raise Complaint(f"{error.filename}: {error.strerror}.") from None
