"""Connections to the proxy, and through it to a host that it rewrites. Nothing goes upstream."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpx
from pydantic import ValidationError

from qwen_mitm.cli.speech import Complaint
from qwen_mitm.settings import Settings
from qwen_mitm.status import STATUS_HOST, STATUS_PATH, Status

from .facts import Answered, Proxy, Tunnel

TIMEOUT_S = 5.0
_LONGEST_HEAD = 16_384
#: Both a regular proxy and a reverse one know it so.
STATUS_URL = f"http://{STATUS_HOST}/{STATUS_HOST}{STATUS_PATH}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy is asked. ``url`` may hold a password, hence no ``repr``."""

    host: str
    port: int
    url: str
    authorization: str
    is_named: bool = True

    def __repr__(self) -> str:
        return f"Place({self.host}:{self.port})"

    @classmethod
    def of(cls, address: str) -> Place:
        """Read ``http://[user:password@]host:port``.

        Raises:
            Complaint: it is not of that form.
        """
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not port or parts.scheme != "http":
            raise Complaint("A proxy is named as http://HOST:PORT.")
        login = ""
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            login = f"Basic {base64.b64encode(words.encode()).decode()}"
        return cls(host, port, f"http://{parts.netloc}", login)


def ask_proxy(place: Place) -> Proxy:
    """Who answers there."""

    def proxy(answered: Answered, words: str = "", status: Status | None = None) -> Proxy:
        return Proxy(place.host, place.port, answered, words, status, place.is_named)

    try:
        with httpx.Client(proxy=place.url, trust_env=False, timeout=TIMEOUT_S) as client:
            answer = client.get(STATUS_URL)
    except httpx.ConnectError as error:
        return proxy("refused", _reason(error))
    except httpx.TimeoutException:
        return proxy("silent")
    except (httpx.HTTPError, OSError, ValueError):
        return proxy("other", "it does not speak HTTP")
    if answer.status_code == 407:
        return proxy("password")
    try:
        return proxy("ours", status=Status.model_validate_json(answer.content))
    except ValidationError:
        is_mitmproxy = "mitmproxy" in answer.headers.get("server", "")
        words = "mitmproxy without the addon" if is_mitmproxy else f"HTTP {answer.status_code}"
        return proxy("other", words)


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return str(getattr(cause, "strerror", None) or "")


def connect(place: Place, host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """TLS to a host through the proxy.

    Raises:
        OSError: there is none; ssl.SSLCertVerificationError: it is not trusted.
    """
    tcp = socket.create_connection((place.host, place.port), timeout=TIMEOUT_S)
    try:
        lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
        if place.authorization:
            lines.append(f"Proxy-Authorization: {place.authorization}")
        tcp.sendall("\r\n".join([*lines, "", ""]).encode())
        status = _head(tcp)
        if status != 200:
            raise ConnectionError(f"the proxy answers CONNECT {host}:{port} with {status}")
        return context.wrap_socket(tcp, server_hostname=host)
    except BaseException:
        tcp.close()
        raise


def _head(stream: socket.socket) -> int:
    """The status of an answer whose head is read and whose body is not."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # One at a time: what follows belongs to TLS.
        byte = stream.recv(1)
        if not byte or len(head) > _LONGEST_HEAD:
            raise ConnectionError("the connection was closed without an answer")
        head += byte
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def try_tunnel(place: Place, host: str, port: int, context: ssl.SSLContext) -> Tunnel:
    try:
        connect(place, host, port, context).close()
    except ssl.SSLCertVerificationError as error:
        return Tunnel("untrusted", error.verify_message)
    except OSError as error:
        return Tunnel("failed", error.strerror or str(error))
    return Tunnel("trusted")


def python_context() -> ssl.SSLContext:
    """What httpx, and so the SDKs for Python, trust in this environment.

    Raises:
        OSError: SSL_CERT_FILE or SSL_CERT_DIR cannot be used.
    """
    return httpx.create_ssl_context(trust_env=True)


def try_python(place: Place, host: str, port: int) -> Tunnel:
    try:
        context = python_context()
    except OSError as error:
        named = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        return Tunnel("untrusted", f"{named} cannot be read: {error.strerror or error}")
    return try_tunnel(place, host, port, context)


def try_upgrade(
    place: Place, host: str, port: int, context: ssl.SSLContext, settings: Settings | None
) -> int | None:
    """The status of a WebSocket upgrade; None: there was no answer."""
    key = settings.local_key.get_secret_value() if settings else ""
    lines = [
        "GET /v1/responses HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        f"Authorization: Bearer {key or 'anything'}",
    ]
    try:
        with connect(place, host, port, context) as stream:
            stream.sendall("\r\n".join([*lines, "", ""]).encode())
            return _head(stream)
    except OSError:
        return None
