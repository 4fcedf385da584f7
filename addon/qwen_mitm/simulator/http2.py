"""The HTTP/2 rim."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from .exchange import PIECE, Application, ClientGone, Exchange, Headers, drop
from .journal import Journal, ReceivedRequest
from .paths import is_control

_READ = 65_536
_WINDOW = 1 << 20


@dataclass(slots=True)
class _Stream:
    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)
    request: ReceivedRequest | None = None
    task: asyncio.Task[None] | None = None
    gone: bool = False
    window: asyncio.Event = field(default_factory=asyncio.Event)


class Http2Connection:
    """One connection, any number of streams."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        number: int,
        journal: Journal,
        application: Application,
        max_streams: int,
    ) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.protocol = h2.connection.H2Connection(config)
        self.reader = reader
        self.writer = writer
        self.number = number
        self.journal = journal
        self.application = application
        self.max_streams = max_streams
        self.streams: dict[int, _Stream] = {}

    async def serve(self) -> None:
        self.protocol.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.max_streams,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 262_144,
            },
        )
        self.protocol.initiate_connection()
        self.flush()
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._read(tasks)
            finally:
                for stream in self.streams.values():
                    self._cancel(stream)

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                data = await self.reader.read(_READ)
                if not data or self.writer.is_closing():
                    return
                for event in self.protocol.receive_data(data):
                    self._handle(event, tasks)
                self.flush()
            except (OSError, h2.exceptions.ProtocolError):
                return

    def flush(self) -> None:
        data = self.protocol.data_to_send()
        if data and not self.writer.is_closing():
            self.writer.write(data)

    def _handle(self, event: h2.events.Event, tasks: asyncio.TaskGroup) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream_id), headers=headers):
                self.streams[stream_id] = _Stream([(str(n), str(v)) for n, v in headers or []])
            case h2.events.DataReceived():
                self._take_body(event)
            case h2.events.StreamEnded(stream_id=int(stream_id)):
                self._begin(stream_id, self.streams[stream_id], tasks)
            case h2.events.StreamReset(stream_id=int(stream_id)):
                self._forget(stream_id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for stream in self.streams.values():
                    stream.window.set()

    def _take_body(self, event: h2.events.DataReceived) -> None:
        self.streams[event.stream_id].body += event.data
        if event.flow_controlled_length:
            self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _forget(self, stream_id: int) -> None:
        """The client reset a stream, perhaps before its request was complete."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        self._cancel(stream)
        if stream.task is None:
            del self.streams[stream_id]

    def _begin(self, stream_id: int, stream: _Stream, tasks: asyncio.TaskGroup) -> None:
        pseudo = {name: value for name, value in stream.headers if name.startswith(":")}
        path = pseudo.get(":path", "/")
        stream.request = self.journal.add(
            connection=self.number,
            http_version="2",
            method=pseudo.get(":method", "GET"),
            path=path,
            authority=pseudo.get(":authority", ""),
            headers=[pair for pair in stream.headers if not pair[0].startswith(":")],
            body=bytes(stream.body),
            recorded=not is_control(path),
        )
        stream.task = tasks.create_task(self._run(stream_id, stream, stream.request))

    async def _run(self, stream_id: int, stream: _Stream, request: ReceivedRequest) -> None:
        try:
            await self.application(Http2Exchange(self, stream_id, stream, request))
        except ClientGone:
            self.journal.close(request, "cancelled")
        finally:
            del self.streams[stream_id]

    def _cancel(self, stream: _Stream) -> None:
        stream.gone = True
        if stream.request is not None:
            self.journal.close(stream.request, "cancelled")
        if stream.task is not None:
            stream.task.cancel()


class Http2Exchange(Exchange):
    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        stream: _Stream,
        request: ReceivedRequest,
    ) -> None:
        super().__init__(request)
        self._connection = connection
        self._protocol = connection.protocol
        self._id = stream_id
        self._stream = stream

    async def _flush(self) -> None:
        self._connection.flush()
        try:
            await self._connection.writer.drain()
        except OSError as error:
            raise ClientGone from error

    def _check(self) -> None:
        if self._stream.gone or self._connection.writer.is_closing():
            raise ClientGone

    async def inform(self, status: int, headers: Headers) -> None:
        self._check()
        self._protocol.send_headers(self._id, [(":status", str(status)), *headers])
        await self._flush()

    async def start(self, status: int, headers: Headers, *, until_close: bool = False) -> None:
        self._check()
        self.request.status = status
        self._protocol.send_headers(self._id, [(":status", str(status)), *headers])
        await self._flush()

    async def send(self, data: bytes) -> None:
        while data:
            self._check()
            room = min(
                self._protocol.local_flow_control_window(self._id),
                self._protocol.max_outbound_frame_size,
                PIECE,
            )
            if room <= 0:
                self._stream.window.clear()
                await self._stream.window.wait()
                continue
            self._protocol.send_data(self._id, data[:room])
            data = data[room:]
            await self._flush()

    async def end(self, trailers: Headers = ()) -> None:
        self._check()
        if trailers:
            self._protocol.send_headers(self._id, list(trailers), end_stream=True)
        else:
            self._protocol.end_stream(self._id)
        await self._flush()

    async def reset(self) -> None:
        self._check()
        self._protocol.reset_stream(self._id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._flush()

    async def close(self) -> None:
        self._protocol.close_connection()
        self._connection.flush()
        self._connection.writer.close()

    async def abort(self) -> None:
        drop(self._connection.writer)
