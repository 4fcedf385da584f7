"""A Chat Completions upstream that is never the bottleneck: every answer is rendered beforehand.

`python -m bench.upstream CERTIFICATE KEY` prints its two ports as JSON and serves until its
standard input ends. Each SSE event is an HTTP chunk of its own, if the workload does not want it
otherwise; a paced answer writes one at a
time, any other leaves in one write.
"""

import asyncio
import json
import ssl
import sys

from bench.workloads import (
    ITEM_MARK,
    ITEMS_HEADER,
    UPSTREAM_KEY,
    WORKLOADS,
    Workload,
    http_pieces,
)

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-request-id: 00000000-bench\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Answer:
    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        chunks = [http_chunk(piece) for piece in http_pieces(workload)]
        if workload.per_second is None:
            self.writes = [HEAD + b"".join(chunks) + LAST_CHUNK]
            self.interval = 0.0
        else:
            # Role with the first word; finish, usage and [DONE] with the last.
            middle = chunks[2:-4]
            self.writes = [HEAD + b"".join(chunks[:2]), *middle]
            self.writes.append(b"".join(chunks[-4:]) + LAST_CHUNK)
            self.interval = 1 / workload.per_second


class Upstream(asyncio.Protocol):
    def __init__(self, answers: dict[bytes, Answer]) -> None:
        self._answers = answers
        self._buffer = bytearray()
        self._head_size = 0
        self._request_size = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._request_size:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head_size = end + 4
            self._request_size = self._head_size + header_number(
                self._buffer[:end], b"content-length"
            )
        if len(self._buffer) >= self._request_size:
            head = bytes(self._buffer[: self._head_size])
            body = bytes(self._buffer[self._head_size : self._request_size])
            del self._buffer[: self._request_size]
            self._request_size = 0
            self._respond(head, body)

    def _respond(self, head: bytes, body: bytes) -> None:
        start = body.find(b'"bench-') + 1
        answer = self._answers.get(body[start : body.find(b'"', start)])
        if UPSTREAM_KEY.encode() not in head:
            self._refuse(401, "the request does not carry the upstream's key")
        elif b"/chat/completions " not in head.partition(b"\r\n")[0]:
            self._refuse(404, "not a path of the Chat Completions API")
        elif answer is None:
            self._refuse(404, "no such model")
        elif (seen := body.count(ITEM_MARK)) != (sent := header_number(head, ITEMS_HEADER)):
            self._refuse(400, f"{seen} of {sent} items of the history arrived")
        else:
            self._transport.write(answer.writes[0])
            if len(answer.writes) > 1:
                self._pace(answer, 1, asyncio.get_running_loop().time() + answer.interval)

    def _pace(self, answer: Answer, index: int, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(when, self._write_next, answer, index, when)

    def _write_next(self, answer: Answer, index: int, when: float) -> None:
        self._transport.write(answer.writes[index])
        if index + 1 < len(answer.writes):
            self._pace(answer, index + 1, when + answer.interval)

    def _refuse(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"message": message, "type": "bench"}}).encode()
        self._transport.write(
            b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (status, len(body), body)
        )


def header_number(head: bytes | bytearray, wanted: bytes) -> int:
    for line in bytes(head).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == wanted:
            return int(value)
    return 0


async def serve(certificate: str, key: str) -> None:
    answers = {model.encode(): Answer(workload) for model, workload in WORKLOADS.items()}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    backlog = 512
    tls = await loop.create_server(
        lambda: Upstream(answers), "127.0.0.1", 0, ssl=context, backlog=backlog
    )
    plain = await loop.create_server(lambda: Upstream(answers), "127.0.0.1", 0, backlog=backlog)
    ports = {"tls": tls.sockets[0].getsockname()[1], "plain": plain.sockets[0].getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
