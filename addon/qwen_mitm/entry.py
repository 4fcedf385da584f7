"""Where the command begins: before its imports, which take most of a second."""

import os
import signal
import sys


def main() -> None:
    """Ctrl-C ends it without a traceback from the first moment."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_what_is_closed()
    from qwen_mitm.cli import app

    signal.signal(signal.SIGINT, handler)
    app()


def _open_what_is_closed() -> None:
    """Or the next file or socket would be taken for the standard output of what is started."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
