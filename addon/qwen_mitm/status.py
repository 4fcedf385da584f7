"""What a running proxy says of itself at ``http://qwen.mitm/status.json``: nothing secret.

observing/page.py answers where there is more to see.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from qwen_mitm.exchange import Answer
from qwen_mitm.observing.document import Observed

#: A host that exists inside the proxy alone. Requests to it never go upstream.
STATUS_HOST: Final = "qwen.mitm"
STATUS_PATH: Final = "/status.json"


class Skew(BaseModel):
    """How far this machine's clock is ahead of an upstream's, as its last answer showed."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    host: str


class Status(BaseModel):
    """The document. Keys that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True)

    name: Literal["qwen-mitm"] = "qwen-mitm"
    version: str
    mitmproxy: str
    python: str
    pid: int
    worker: int = 1
    """Which of those that `qwen-mitm run --workers` started."""
    workers: int = 1
    modes: tuple[str, ...]
    listen: tuple[str, ...]
    """Addresses, without ports."""
    confdir: str
    """Where mitmproxy's CA is."""
    hosts: tuple[str, ...]
    """The claimed origins: ``https://portal.qwen.ai:443``."""
    accounts_file: str | None
    """None: the one account is that of the environment."""
    allow_remote: bool
    needs_local_key: bool
    skew: Skew | None = None
    observed: Observed | None = None
    """What the status page shows; None where it is not shown."""


def answer(method: str, path: str, is_local: bool, status: Status) -> Answer:
    """The answer where the status page is not shown."""
    if not is_local:
        return text_answer(403, "Only programs on this machine may read this.")
    if path.partition("?")[0] != STATUS_PATH:
        return text_answer(404, f"There is only http://{STATUS_HOST}{STATUS_PATH}.")
    if method not in ("GET", "HEAD"):
        return text_answer(405, "This can only be read.")
    fields = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    return Answer(200, fields, status.model_dump_json(indent=2).encode() + b"\n")


def text_answer(status: int, words: str) -> Answer:
    """A line for a person."""
    return Answer(status, ((b"content-type", b"text/plain; charset=utf-8"),), f"{words}\n".encode())
