"""The load generator: `python -m bench.load` reads jobs as JSON lines and answers with results.

While the clock runs it only keeps what arrives and when; answers are checked afterwards.
"""

import asyncio
import gc
import socket
import ssl
import statistics
import sys
from time import perf_counter

from bench.answers import WrongAnswer, check
from bench.jobs import JOB, Failed, Job, Paced, PacedResult, Route, Series, SeriesResult
from bench.meter import cpu_seconds
from bench.workloads import (
    CONVERSATION,
    ITEMS_HEADER,
    WORKLOADS,
    Workload,
    request_parts,
    turn_items,
)

PATIENCE = 60.0
SETTLE = 0.3
EVENT_MARK = b"data: {"
LAST_HTTP_CHUNK = b"\r\n0\r\n\r\n"


class Exchange:
    def __init__(self) -> None:
        self.started = 0.0
        self.first_event = 0.0
        self.finished = 0.0
        self.size = 0
        self.pieces: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def raw(self) -> bytes:
        return b"".join(self.pieces)

    async def wait(self) -> None:
        try:
            await asyncio.wait_for(self.done, PATIENCE)
        except TimeoutError:
            message = f"no end of the answer within {PATIENCE:.0f} s: …{self.raw()[-300:]!r}"
            raise WrongAnswer(message) from None


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._tail = b""
        self._length: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange and not self._exchange.done.done():
            seen = self._exchange.raw()[-300:]
            error = WrongAnswer(f"the connection closed within an answer: …{seen!r}")
            self._exchange.done.set_exception(error)

    def send(self, request: bytes) -> Exchange:
        exchange = self._exchange = Exchange()
        self._tail, self._length = b"", None
        exchange.started = perf_counter()
        self.transport.write(request)
        return exchange

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        exchange = self._exchange
        assert exchange
        exchange.pieces.append(data)
        exchange.size += len(data)
        if not exchange.first_event:
            self._read_beginning(exchange, now)
        self._tail = data[-7:] if len(data) >= 7 else (self._tail + data)[-7:]
        # JSON has no raw CR, so the end of the body cannot be seen inside an event.
        if self._tail == LAST_HTTP_CHUNK or exchange.size == self._length:
            exchange.finished = now
            exchange.done.set_result(None)

    def _read_beginning(self, exchange: Exchange, now: float) -> None:
        head, _, body = exchange.raw().partition(b"\r\n\r\n")
        if EVENT_MARK in body:
            exchange.first_event = now
        _, found, value = head.lower().partition(b"\r\ncontent-length:")
        if found:
            self._length = len(head) + 4 + int(value.partition(b"\r\n")[0])


async def connect(route: Route) -> Connection:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, (route.host, route.port))
    if route.connect:
        line = f"CONNECT {route.authority} HTTP/1.1\r\nhost: {route.authority}\r\n\r\n"
        await loop.sock_sendall(sock, line.encode())
        answer = await loop.sock_recv(sock, 4096)
        if b" 200 " not in answer:
            raise WrongAnswer(f"CONNECT was answered {answer[:300]!r}")
    context: ssl.SSLContext | None = None
    if route.tls_name:
        context = ssl.create_default_context(cafile=route.ca)
        context.set_alpn_protocols(["http/1.1"])
    _, connection = await loop.create_connection(
        Connection, sock=sock, ssl=context, server_hostname=route.tls_name
    )
    return connection


class Requests:
    """A workload's requests for one route: conversations of one turn, or one of many turns."""

    _conversations = 0

    def __init__(self, route: Route, workload: Workload) -> None:
        self._workload, self._api = workload, route.api
        self._before, self._after = request_parts(workload, route.api)
        self._turns: list[bytes] = []
        self._head = (
            f"POST {route.path} HTTP/1.1\r\nhost: {route.authority}\r\n"
            f"authorization: Bearer {route.bearer}\r\ncontent-type: application/json\r\n"
            "accept: text/event-stream\r\n"
        ).encode()
        self._conversation = self._another()

    def _another(self) -> bytes:
        Requests._conversations += 1
        return b"conversation-%06d" % Requests._conversations

    def next(self) -> bytes:
        items = self._workload.history + 2 * len(self._turns)
        before = self._before.replace(CONVERSATION, self._conversation, 1)
        body = b"".join((before, *self._turns, self._after))
        if self._workload.grows:
            self._turns.append(turn_items(len(self._turns), self._api))
        else:
            self._conversation = self._another()
        about = b"content-length: %d\r\n%b: %d\r\n\r\n" % (len(body), ITEMS_HEADER, items)
        return self._head + about + body


async def one_after_the_other(
    connection: Connection, requests: Requests, count: int
) -> list[Exchange]:
    exchanges = []
    for _ in range(count):
        request = requests.next()
        exchange = connection.send(request)
        await exchange.wait()
        exchanges.append(exchange)
    return exchanges


async def run_series(job: Series) -> SeriesResult:
    workload = WORKLOADS[job.model]
    connections = [await connect(job.route) for _ in range(job.connections)]
    try:
        # Short answers warm a connection whatever the workload is.
        warm_up = workload if workload.history else WORKLOADS["bench-short"]
        requests = Requests(job.route, workload)
        for connection in connections:
            opening = requests if workload.history else Requests(job.route, warm_up)
            for exchange in await one_after_the_other(connection, opening, job.warmup):
                check(exchange.raw(), warm_up, job.route.api)
        cpu_before = job.pid and cpu_seconds(job.pid)
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one_after_the_other(connection, requests, job.requests))
                for connection in connections
            ]
        wall = perf_counter() - started
        cpu = job.pid and cpu_before and cpu_seconds(job.pid) - cpu_before
    finally:
        for connection in connections:
            connection.transport.abort()
    exchanges = [exchange for task in tasks for exchange in task.result()]
    for exchange in exchanges:
        check(exchange.raw(), workload, job.route.api)
    return SeriesResult(
        first_event_ms=1e3 * statistics.median(x.first_event - x.started for x in exchanges),
        whole_ms=1e3 * statistics.median(x.finished - x.started for x in exchanges),
        wall_ms=1e3 * wall,
        cpu_us=cpu and 1e6 * cpu,
    )


async def run_fresh(job: Series) -> SeriesResult:
    """Each request on a connection of its own, one after the other."""
    workload = WORKLOADS[job.model]
    requests = Requests(job.route, workload)
    times: list[tuple[float, float]] = []
    cpu_before, first = 0.0, 0.0
    for number in range(job.warmup + job.requests):
        if number == job.warmup:
            cpu_before = cpu_seconds(job.pid) if job.pid else 0.0
            first = perf_counter()
        began = perf_counter()
        connection = await connect(job.route)
        exchange = connection.send(requests.next())
        await exchange.wait()
        connection.transport.abort()
        check(exchange.raw(), workload, job.route.api)
        times.append((exchange.first_event - began, exchange.finished - began))
    wall = perf_counter() - first
    times = times[job.warmup :]
    return SeriesResult(
        first_event_ms=1e3 * statistics.median(first_event for first_event, _ in times),
        whole_ms=1e3 * statistics.median(whole for _, whole in times),
        wall_ms=1e3 * wall,
        cpu_us=1e6 * (cpu_seconds(job.pid) - cpu_before) if job.pid else None,
    )


async def run_paced(job: Paced) -> PacedResult:
    workload, short = WORKLOADS[job.model], WORKLOADS["bench-short"]
    connections = [await connect(job.route) for _ in range(job.streams)]
    try:
        opening = Requests(job.route, short)
        for connection in connections:
            for exchange in await one_after_the_other(connection, opening, 1):
                check(exchange.raw(), short, job.route.api)
        requests = Requests(job.route, workload)
        exchanges = [connection.send(requests.next()) for connection in connections]
        while not all(exchange.first_event for exchange in exchanges):
            await asyncio.sleep(0.05)
            if any(exchange.done.done() for exchange in exchanges):
                raise WrongAnswer("a stream ended before all had begun")
        await asyncio.sleep(SETTLE)
        cpu_before = cpu_seconds(job.pid)
        sizes_before = [exchange.size for exchange in exchanges]
        await asyncio.sleep(job.window)
        cpu = cpu_seconds(job.pid) - cpu_before
        sizes = [exchange.size for exchange in exchanges]
        if any(exchange.done.done() for exchange in exchanges):
            raise WrongAnswer("a stream ended within the window")
        for exchange in exchanges:
            await exchange.wait()
    finally:
        for connection in connections:
            connection.transport.abort()
    count = 0
    for exchange, before, after in zip(exchanges, sizes_before, sizes, strict=True):
        raw = exchange.raw()
        check(raw, workload, job.route.api)
        count += raw[before:after].count(EVENT_MARK)
    return PacedResult(cpu_us_per_event=1e6 * cpu / count)


async def run(job: Job) -> SeriesResult | PacedResult:
    # A collection in the timed part would be the load generator's, not the system's.
    gc.collect()
    gc.disable()
    try:
        if isinstance(job, Paced):
            return await run_paced(job)
        return await (run_fresh(job) if job.fresh else run_series(job))
    finally:
        gc.enable()


def report(job: Job) -> SeriesResult | PacedResult | Failed:
    try:
        return asyncio.run(run(job))
    except ExceptionGroup as group:
        error = first_of(group)
    except (WrongAnswer, OSError, ValueError, LookupError) as single:
        error = single
    return Failed(error=f"{type(error).__name__}: {error}")


def first_of(group: ExceptionGroup) -> Exception:
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, ExceptionGroup) else error


def main() -> None:
    for line in sys.stdin:
        result = report(JOB.validate_json(line))
        sys.stdout.write(result.model_dump_json() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
