"""The HTTP/1.1 rim."""

from __future__ import annotations

import asyncio

import h11

from .exchange import Application, ClientGone, Exchange, Headers, drop
from .journal import Journal, ReceivedRequest
from .paths import is_control

_READ = 65_536


class Http1Connection:
    """One connection: requests one after the other, the client watched while it is answered."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        number: int,
        journal: Journal,
        application: Application,
    ) -> None:
        self.protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=262_144)
        self.reader = reader
        self.writer = writer
        self.number = number
        self.journal = journal
        self.application = application
        self.closing = False

    async def serve(self) -> None:
        try:
            while not self.closing:
                request = await self._receive()
                if request is None:
                    return
                await self._answer(request)
                if self.protocol.our_state is not h11.DONE or self.closing:
                    return
                self.protocol.start_next_cycle()
        except (h11.RemoteProtocolError, OSError):
            return

    async def write(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ClientGone
        self.writer.write(data)
        try:
            await self.writer.drain()
        except OSError as error:
            raise ClientGone from error

    async def _receive(self) -> ReceivedRequest | None:
        head: h11.Request | None = None
        body: list[bytes] = []
        while True:
            event = self.protocol.next_event()
            if event is h11.NEED_DATA:
                if self.protocol.they_are_waiting_for_100_continue:
                    interim = h11.InformationalResponse(status_code=100, headers=[])
                    self.writer.write(self.protocol.send(interim))
                self.protocol.receive_data(await self.reader.read(_READ))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._record(head, b"".join(body))
            else:
                return None

    def _record(self, head: h11.Request, body: bytes) -> ReceivedRequest:
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        path = head.target.decode("latin-1")
        return self.journal.add(
            connection=self.number,
            http_version="1.1",
            method=head.method.decode(),
            path=path,
            authority=next((value for name, value in headers if name == "host"), ""),
            headers=headers,
            body=body,
            recorded=not is_control(path),
        )

    async def _answer(self, request: ReceivedRequest) -> None:
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(self._run(request))
            watch = tasks.create_task(self._watch(request, answer))
            await asyncio.wait({answer})
            watch.cancel()

    async def _run(self, request: ReceivedRequest) -> None:
        try:
            await self.application(Http1Exchange(self, request))
        except ClientGone:
            self.journal.close(request, "cancelled")
            self.closing = True

    async def _watch(self, request: ReceivedRequest, answer: asyncio.Task[None]) -> None:
        """The end of the client's side means that nobody waits for the answer."""
        while True:
            try:
                data = await self.reader.read(_READ)
            except OSError:
                data = b""
            if not data:
                break
            self.protocol.receive_data(data)
        self.closing = True
        if not answer.done():
            self.journal.close(request, "cancelled")
            answer.cancel()


class Http1Exchange(Exchange):
    def __init__(self, connection: Http1Connection, request: ReceivedRequest) -> None:
        super().__init__(request)
        self._connection = connection
        self._bare = False

    async def _send(self, event: h11.Event) -> None:
        data = self._connection.protocol.send(event)
        if data:
            await self._connection.write(data)

    async def inform(self, status: int, headers: Headers) -> None:
        await self._send(h11.InformationalResponse(status_code=status, headers=list(headers)))

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        self.request.status = status
        if until_close:
            # h11 insists on chunks towards an HTTP/1.1 client, so this head is written by hand.
            self._bare = True
            lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers)]
            head = "\r\n".join([*lines, "connection: close", "", ""])
            await self._connection.write(head.encode("latin-1"))
            return
        fields = list(headers)
        if not any(name.lower() == "content-length" for name, _ in fields):
            fields.append(("transfer-encoding", "chunked"))
        await self._send(h11.Response(status_code=status, headers=fields))

    async def send(self, data: bytes) -> None:
        if self._bare:
            await self._connection.write(data)
        else:
            await self._send(h11.Data(data=data))

    async def end(self, trailers: Headers = ()) -> None:
        if self._bare:
            await self.close()
        else:
            await self._send(h11.EndOfMessage(headers=list(trailers)))

    async def reset(self) -> None:
        await self.abort()

    async def close(self) -> None:
        self._connection.closing = True
        self._connection.writer.close()

    async def abort(self) -> None:
        self._connection.closing = True
        drop(self._connection.writer)
