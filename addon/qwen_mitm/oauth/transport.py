"""The authorization server over the network.

httpx is imported when it is used: it takes a tenth of a second, and few accounts need it.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import certifi
from pydantic import SecretStr

from qwen_mitm import __version__

from .device import Flow, Prompt, Wait
from .messages import Answer, Fault, Post, Reply, Tokens

if TYPE_CHECKING:
    import httpx

#: Seconds for one request, all of it (qwen.md §2.2).
TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
#: No answer of an authorization server is as long as this.
LARGEST_ANSWER = 262_144


def tls_context() -> ssl.SSLContext:
    """Trusts certifi's authorities, and those of SSL_CERT_FILE and SSL_CERT_DIR beside them."""
    context = ssl.create_default_context(cafile=certifi.where())
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context.load_verify_locations(cafile=file or None, capath=folder or None)
    return context


def open_client() -> httpx.Client:
    """A client for the authorization server, through the proxies of the environment.

    Redirects are not followed: the form holds the refresh token.

    Raises:
        OSError: the certificates cannot be read.
        ValueError, ImportError: the proxy that the environment names cannot be used.
    """
    import httpx

    return httpx.Client(
        http1=True,
        http2=False,
        verify=tls_context(),
        timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
        follow_redirects=False,
        headers={"accept": "application/json", "user-agent": f"qwen-mitm/{__version__}"},
    )


def send(client: httpx.Client, post: Post, *, timeout: float = TIMEOUT) -> Reply:
    """Send a form; whatever goes wrong on the way is a Fault."""
    import httpx

    give_up = time.monotonic() + timeout
    try:
        # The one place where a token leaves its wrapper.
        form = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in post.form.items()
        }
        with client.stream("POST", post.url, data=form, headers=dict(post.headers)) as response:
            del form
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LARGEST_ANSWER:
                    return Fault("the server's answer has no end")
                if time.monotonic() > give_up:
                    return Fault(f"no complete answer in {timeout:g} seconds")
            return Answer(response.status_code, body)
    except httpx.TimeoutException:
        return Fault(f"no answer from {_host(post)} in time")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Fault(f"{_host(post)} cannot be reached: {str(error) or type(error).__name__}")


def _host(post: Post) -> str:
    import httpx

    return httpx.URL(post.url).host or post.url


def drive(
    flow: Flow,
    client: httpx.Client,
    *,
    show: Callable[[Prompt], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Tokens:
    """Run a login to its end, showing the prompt when it comes.

    Raises:
        LoginFailed: as the flow does.
    """
    with closing(flow):
        reply: Reply | None = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                tokens: Tokens = end.value
                return tokens
            match step:
                case Post():
                    reply = send(client, step)
                case Wait(seconds):
                    sleep(seconds)
                    reply = None
                case Prompt():
                    show(step)
                    reply = None
