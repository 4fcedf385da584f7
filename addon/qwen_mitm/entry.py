"""Where the command begins: before its imports, which take most of a second."""

import signal


def main() -> None:
    """Ctrl-C ends it without a traceback from the first moment."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from qwen_mitm.cli import app

    signal.signal(signal.SIGINT, handler)
    app()
