"""chat.qwen.ai over the network, by our own name and with the user's own credentials.

No browser is imitated. A page in the place of an answer is the end of it (errors.blocked).
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import httpx

from qwen_mitm.oauth.transport import tls_context
from qwen_mitm.wire.chat import AnswerPart, ChatChunk, EndOfAnswer, Failure, Usage
from qwen_mitm.wire.chat_request import ChatRequest
from qwen_mitm.wire.error_body import read_json
from qwen_mitm.wire.response_object import JsonObject

from .credentials import Credentials
from .envelope import (
    MODELS_PATH,
    NEW_PATH,
    chat_mode,
    completion_payload,
    completion_target,
    request_headers,
)
from .errors import (
    ProtocolChanged,
    Unavailable,
    WebChatError,
    blocked,
    is_page,
    refusal_in,
    refused,
)
from .events import parse_chunk
from .payloads import Completion, create_chat_payload
from .reader import Said, WebChatReader
from .retry import RetryPolicy, retried

#: The catalogue is asked for again after so long.
MODELS_S: Final = 3600.0
TIMEOUT_S: Final = 30.0
#: Of an answer that is no stream.
_LARGEST: Final = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    said: Said
    thought: str
    finish_reason: str
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the site answers these credentials, and if not, why."""

    is_well: bool
    models: int = 0
    error: WebChatError | None = None


@cache
def _trusted() -> ssl.SSLContext:
    return tls_context()


@asynccontextmanager
async def open_http(*, trust_env: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client through the proxies of the environment. Redirects would carry the cookies off.

    HTTP/1.1: a stream that is given up over HTTP/2 would go on (mitmproxy.md §2.5).

    Raises:
        Unavailable: the environment names certificates or a proxy that cannot be used.
    """
    try:
        client = httpx.AsyncClient(
            http1=True,
            http2=False,
            verify=_trusted(),
            timeout=httpx.Timeout(TIMEOUT_S, connect=10.0),
            follow_redirects=False,
            trust_env=trust_env,
        )
        # It tells the log of every answer's headers: new cookies are among them.
        logging.getLogger("httpcore").setLevel(logging.INFO)
    except (OSError, ValueError, ImportError, httpx.InvalidURL):
        # Its address may hold a password.
        raise Unavailable(
            "The certificates or the proxy that the environment names cannot be used. "
            "`qwen-mitm doctor` says what is wrong."
        ) from None
    async with client:
        yield client


@dataclass(slots=True)
class WebChatClient:
    """One login at one address. Every method raises a WebChatError when it does not work."""

    http: httpx.AsyncClient
    base_url: str
    credentials: Credentials
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    _models: tuple[float, tuple[JsonObject, ...]] | None = None

    async def create_chat(self, *, model: str, key: str) -> str:
        """A new chat; ``key`` is that of the conversation."""
        payload = create_chat_payload(
            key=key,
            model=model,
            chat_mode=chat_mode(self.credentials),
            now_ms=int(self.now() * 1000),
        )
        body = await self._document("POST", NEW_PATH, payload.encoded())
        chunk = parse_chunk(body)
        if chunk is None or chunk.data is None or not chunk.data.id:
            raise ProtocolChanged("chat.qwen.ai made no chat: its answer has no id.")
        return chunk.data.id

    async def stream_message(
        self, payload: Completion, offered: Mapping[str, JsonObject] | None = None
    ) -> AsyncIterator[AnswerPart]:
        """The answer to a message, part by part; an answer that has begun is not asked for again.

        Its last part is an ``EndOfAnswer``.
        """
        reader = WebChatReader(offered=offered or {}, redact=self.credentials.redact)
        response = await self._retried(lambda: self._opened(payload))
        ended = False
        try:
            async for data in response.aiter_bytes():
                for part in reader.feed(data):
                    ended = ended or isinstance(part, EndOfAnswer)
                    yield _checked(part, reader)
                if ended:
                    # The site need not hang up.
                    break
        except httpx.HTTPError as error:
            raise _lost(error) from None
        finally:
            await response.aclose()
        for part in reader.end():
            ended = ended or isinstance(part, EndOfAnswer)
            yield _checked(part, reader)
        if not ended:
            raise Unavailable("chat.qwen.ai's answer broke off.")

    async def send_message(self, payload: Completion) -> Reply:
        """The answer to a message, when all of it is there."""
        return await self._retried(lambda: self._whole(payload))

    async def _whole(self, payload: Completion) -> Reply:
        said: list[Said] = []
        reader = WebChatReader(offered={}, on_end=said.append, redact=self.credentials.redact)
        parts: list[AnswerPart] = []
        response = await self._opened(payload)
        try:
            async for data in response.aiter_bytes():
                parts += reader.feed(data)
                if said:
                    break
        except httpx.HTTPError as error:
            raise _lost(error) from None
        finally:
            await response.aclose()
        parts += reader.end()
        checked = [_checked(part, reader) for part in parts]
        if not said:
            raise Unavailable("chat.qwen.ai's answer broke off.")
        choices = [c for part in checked if isinstance(part, ChatChunk) for c in part.choices]
        return Reply(
            said[0],
            "".join(choice.delta.reasoning or "" for choice in choices),
            next((c.finish_reason for c in reversed(choices) if c.finish_reason), "stop"),
            reader.usage,
        )

    async def chat(self, request: ChatRequest, content: str) -> Reply:
        """A message to a chat of its own."""
        chat_id = await self.create_chat(model=request.model, key=uuid.uuid4().hex)
        payload = completion_payload(
            request,
            self.credentials,
            content,
            chat_id=chat_id,
            parent_id=None,
            fid=str(uuid.uuid4()),
            now_s=int(self.now()),
        )
        return await self.send_message(payload)

    async def list_models(self) -> tuple[JsonObject, ...]:
        """The catalogue, which is good for an hour. A failure is one, and no list of ours."""
        if self._models is not None and 0 <= self.now() - self._models[0] < MODELS_S:
            return self._models[1]
        document = read_json(await self._document("GET", MODELS_PATH))
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, list):
            raise ProtocolChanged("chat.qwen.ai's list of models is none.")
        models = tuple(model for model in data if isinstance(model, dict) and model.get("id"))
        self._models = (self.now(), models)
        return models

    async def health_check(self) -> Health:
        """Asks the site now, whatever was asked before."""
        self._models = None
        try:
            return Health(True, len(await self.list_models()))
        except WebChatError as error:
            return Health(False, error=error)

    # On the wire -------------------------------------------------------------------------------

    async def _retried[T](self, act: Callable[[], Awaitable[T]]) -> T:
        return await retried(act, self.policy, sleep=self.sleep, random=self.chance)

    async def _document(self, method: str, path: str, content: bytes | None = None) -> bytes:
        async def ask() -> bytes:
            request = self._request(method, path, content, streams=False)
            response = await self._sent(request)
            try:
                body = await _bounded(response)
            finally:
                await response.aclose()
            if is_page(body):
                raise blocked()
            if error := refusal_in(body):
                raise self._clean(error)
            try:
                read_json(body)
            except ValueError:
                raise Unavailable("chat.qwen.ai's answer is no JSON.") from None
            return body

        return await self._retried(ask)

    async def _opened(self, payload: Completion) -> httpx.Response:
        target = completion_target(payload.chat_id)
        return await self._sent(self._request("POST", target, payload.encoded(), streams=True))

    def _request(
        self, method: str, path: str, content: bytes | None, *, streams: bool
    ) -> httpx.Request:
        headers = request_headers(self.credentials, streams=streams)
        url = self.base_url.rstrip("/") + path
        return self.http.build_request(method, url, content=content, headers=headers)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """The answer's head, which is a 2xx."""
        try:
            response = await self.http.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _lost(error) from None
        if response.is_success:
            return response
        try:
            body = await _bounded(response)
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        raise self._clean(refused(response.status_code, headers, body))

    def _clean(self, error: WebChatError) -> WebChatError:
        error.message = self.credentials.redact(error.message)
        return error


def _checked(part: AnswerPart, reader: WebChatReader) -> AnswerPart:
    if isinstance(part, Failure):
        raise reader.trouble or Unavailable(part.message)
    return part


async def _bounded(response: httpx.Response) -> bytes:
    body = b""
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > _LARGEST:
                raise Unavailable("chat.qwen.ai's answer has no end.")
    except httpx.HTTPError as error:
        raise _lost(error) from None
    return body


def _lost(error: Exception) -> WebChatError:
    """Nothing of the request is in it: that holds the cookies."""
    kind = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "was lost"
    lost = Unavailable(f"The connection to chat.qwen.ai {kind} ({type(error).__name__}).")
    lost.is_passing = True
    return lost
