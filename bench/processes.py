"""Child processes that never outlive the run."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"


@contextmanager
def process(
    arguments: list[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    talks: bool = True,
) -> Iterator[subprocess.Popen[str]]:
    """A child that ends with the block; one that `talks` does so by its standard streams.

    Its session is its own, so that Ctrl-C reaches it through us alone.
    """
    with log.open("w") as output:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else output,
            stderr=output,
            env=dict(env),
            cwd=cwd,
            text=True,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            # What a dead child did not read is of no use to anybody.
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()


def running(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        return port


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that every process we started is stopped."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
