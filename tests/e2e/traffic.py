"""What the clients of the tests got, and what the simulators received: all of it is checked.

Every answer that a client of httpx, of the official library or of ``Wire`` reads is seen here, and
every simulator's journal before it is forgotten; also what the witness in a proxy says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final

import httpx
import httpx2

from qwen_mitm.simulator import SimulatorProcess
from tests.chat_checker import THINKING_KEYS, check_chat
from tests.e2e.proxy import Proxy
from tests.e2e.wire import Wire
from tests.event_checker import FAULTS, check_stream
from tests.layer_peers import Answer
from tests.watch import BROKEN_RULE

_RESPONSES: Final = "/responses"
_CHAT: Final = "/chat/completions"


@dataclass
class Seen:
    """The body of one streamed answer so far."""

    pieces: list[bytes] = field(default_factory=list)
    whole: bool = False


class Traffic:
    """What went over the wires since ``begin``."""

    def __init__(self) -> None:
        self._streams: list[Seen] = []
        self._answers: list[Answer] = []
        self._faults: list[str] = []
        self.simulators: dict[SimulatorProcess, int] = {}
        """How many requests of each journal are judged already."""
        self.proxies: dict[Proxy, int] = {}
        """How much of each log is read already."""

    def begin(self) -> None:
        self._streams.clear()
        self._answers.clear()
        self._faults.clear()

    def forget_requests(self) -> None:
        """Those that a client sent to another path in its own words are no work of ours."""
        for simulator in self.simulators:
            self.judge_requests(simulator)
        self._faults.clear()

    def faults(self) -> list[str]:
        """One line for each rule that was broken since ``begin``."""
        for simulator in self.simulators:
            self.judge_requests(simulator)
        for seen in self._streams:
            self._judge(b"".join(seen.pieces), whole=seen.whole)
        for answer in self._answers:
            if _is_stream(answer.status or 0, answer.headers.items()):
                self._judge(answer.body, whole=answer.ended)
        self._streams.clear()
        self._answers.clear()
        for proxy in self.proxies:
            self.judge_log(proxy)
        return self._faults

    def stream(self) -> Seen:
        self._streams.append(Seen())
        return self._streams[-1]

    def answer(self, answer: Answer) -> None:
        self._answers.append(answer)

    def judge_requests(self, simulator: SimulatorProcess) -> None:
        requests = simulator.requests()
        fresh = requests[self.simulators[simulator] :]
        self.simulators[simulator] = len(requests)
        for request in fresh:
            if request["method"] == "POST" and request["path"].endswith(_CHAT):
                self._judge_request(request["json"])

    def judge_log(self, proxy: Proxy) -> None:
        log = proxy.log
        fresh = log[self.proxies[proxy] :]
        self.proxies[proxy] = len(log)
        self._faults += [line for line in fresh.splitlines() if BROKEN_RULE in line]

    def _judge_request(self, body: Any) -> None:
        """Accounts say which host the simulator plays; one of them has to take the request."""
        first: Exception | None = None
        for provider in ("generic", *THINKING_KEYS):
            try:
                check_chat(body, provider)
            except FAULTS as error:
                first = first or error
            else:
                return
        self._faults.append(f"a request: {first!r} {str(body)[:2000]}")

    def _judge(self, stream: bytes, *, whole: bool) -> None:
        try:
            check_stream(stream, whole=whole)
        except FAULTS as error:
            self._faults.append(f"a stream: {error!r} {stream.decode()[-2000:]}")


TRAFFIC: Final = Traffic()


def install() -> None:
    """Let every client and simulator of this process be seen."""
    for library in (httpx, httpx2):
        _see_answers(library)
        _see_async_answers(library)
    start = Proxy.__enter__

    @wraps(start)
    def started(self: Proxy) -> Proxy:
        TRAFFIC.proxies[self] = 0
        return start(self)

    stop = Proxy.__exit__

    @wraps(stop)
    def stopped(self: Proxy, *arguments: Any) -> None:
        stop(self, *arguments)
        TRAFFIC.judge_log(self)
        del TRAFFIC.proxies[self]

    Proxy.__enter__ = started  # type: ignore[method-assign,assignment]
    Proxy.__exit__ = stopped  # type: ignore[method-assign]
    for name in ("reset", "__exit__"):
        setattr(SimulatorProcess, name, _seen_forgetting(getattr(SimulatorProcess, name)))
    enter: Callable[[SimulatorProcess], SimulatorProcess] = SimulatorProcess.__enter__
    post = Wire.post

    @wraps(enter)
    def entered(self: SimulatorProcess) -> SimulatorProcess:
        started = enter(self)
        TRAFFIC.simulators[started] = 0
        return started

    @wraps(post)
    def posted(self: Wire, document: Any, path: str = "/v1/responses", fields: Any = ()) -> Answer:
        answer = post(self, document, path, fields)
        if path.partition("?")[0].endswith(_RESPONSES):
            TRAFFIC.answer(answer)
        return answer

    SimulatorProcess.__enter__ = entered  # type: ignore[method-assign,assignment]
    Wire.post = posted  # type: ignore[method-assign]


def _seen_forgetting(method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def seen(self: SimulatorProcess, *arguments: Any) -> None:
        if self in TRAFFIC.simulators:
            TRAFFIC.judge_requests(self)
            TRAFFIC.simulators[self] = 0
            if arguments:
                del TRAFFIC.simulators[self]
        method(self, *arguments)

    return seen


def _is_stream(status: int, headers: Iterable[tuple[str, str]]) -> bool:
    kinds = [value for name, value in headers if name.lower() == "content-type"]
    return status == 200 and any(kind.startswith("text/event-stream") for kind in kinds)


def _is_turn(request: Any, response: Any) -> bool:
    is_turn = request.method == "POST" and request.url.path.endswith(_RESPONSES)
    return is_turn and _is_stream(response.status_code, response.headers.items())


# The two libraries have the same classes under different names of modules.
def _see_answers(library: Any) -> None:
    handle = library.HTTPTransport.handle_request

    class SeenStream(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream, self._seen = stream, TRAFFIC.stream()

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._stream:
                self._seen.pieces.append(piece)
                yield piece
            self._seen.whole = True

        def close(self) -> None:
            self._stream.close()

    @wraps(handle)
    def seen(self: Any, request: Any) -> Any:
        response = handle(self, request)
        if _is_turn(request, response):
            response.stream = SeenStream(response.stream)
        return response

    library.HTTPTransport.handle_request = seen


def _see_async_answers(library: Any) -> None:
    handle = library.AsyncHTTPTransport.handle_async_request

    class SeenStream(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream, self._seen = stream, TRAFFIC.stream()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._stream:
                self._seen.pieces.append(piece)
                yield piece
            self._seen.whole = True

        async def aclose(self) -> None:
            await self._stream.aclose()

    @wraps(handle)
    async def seen(self: Any, request: Any) -> Any:
        response = await handle(self, request)
        if _is_turn(request, response):
            response.stream = SeenStream(response.stream)
        return response

    library.AsyncHTTPTransport.handle_async_request = seen
