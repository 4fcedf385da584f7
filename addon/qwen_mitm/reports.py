"""What a proxy tells the program that started it: JSON lines over a connection of their own. Pure.

The starter listens on loopback and names its port, with a word that proves who calls, in the
environment (VARIABLE). The connection also ties the two together: when the starter closes its side
or is killed, the proxy ends.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

#: ``port/word``.
VARIABLE: Final = "QWEN_MITM_REPORTS"
#: ``number/count``; it is there where several proxies share a port.
WORKER_VARIABLE: Final = "QWEN_MITM_WORKER"
#: The descriptor of the socket that they all listen at, where each cannot have its own.
LISTENER_VARIABLE: Final = "QWEN_MITM_LISTENER"

# An answer of a few tokens, or one that comes in one piece, has no speed.
_FEWEST_TOKENS: Final = 8
_SHORTEST_S: Final = 0.05


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class Ready(_Report):
    """The proxy listens, and the addon is loaded."""

    type: Literal["ready"] = "ready"
    port: int
    ca: str
    hosts: tuple[str, ...]
    """The claimed origins, as URLs."""
    web: str | None = None
    """Where mitmweb is, with what lets its reader in."""


class Try(_Report):
    """One attempt of a turn."""

    account: str
    status: int | None
    failure: str | None
    host: str = ""
    port: int = 0
    began_s: float = 0.0
    """After the turn began."""
    head_s: float | None = None
    """When the head of its answer came, after the turn began."""


class Tokens(_Report):
    input: int = 0
    cached: int = 0
    """Of the input."""
    output: int = 0
    reasoning: int = 0
    """Of the output."""
    estimated: bool = False


class Fault(_Report):
    """Why the client got no whole answer, in the words that it got."""

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None


class TurnEnded(_Report):
    """What is known of a turn that is over, for everybody who counts or shows turns."""

    type: Literal["turn"] = "turn"
    line: str
    """The same that the proxy logs."""
    model: str
    outcome: str
    """``completed``, ``incomplete``, ``failed``; ``refused``, ``broken off``."""
    tries: tuple[Try, ...]
    tokens: Tokens
    first_event_s: float | None = None
    response_id: str | None = None
    streamed: bool = True
    ended_at: float = 0.0
    """Seconds since 1970."""
    duration_s: float = 0.0
    fault: Fault | None = None
    cost: float | None = None
    """None: there is no price for the model, or the tokens are a guess."""
    currency: str = ""

    @property
    def succeeded(self) -> bool:
        """The client got an answer of the model that ended as such."""
        return self.outcome in ("completed", "incomplete")

    @property
    def tokens_per_second(self) -> float | None:
        """From the first event to the last; None where that says nothing."""
        if self.first_event_s is None or not self.streamed or not self.succeeded:
            return None
        took = self.duration_s - self.first_event_s
        if took < _SHORTEST_S or self.tokens.output < _FEWEST_TOKENS or self.tokens.estimated:
            return None
        return self.tokens.output / took


class RequestRefused(_Report):
    """A claimed request that did not become a turn."""

    type: Literal["refused"] = "refused"
    line: str
    ended_at: float = 0.0
    fault: Fault | None = None


class Remark(_Report):
    """A warning or an error of the proxy's log."""

    type: Literal["remark"] = "remark"
    text: str


type Report = Annotated[Ready | TurnEnded | RequestRefused | Remark, Field(discriminator="type")]
REPORT: Final[TypeAdapter[Report]] = TypeAdapter(Report)
