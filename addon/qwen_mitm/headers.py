"""Which headers go on, and which stay here. Pure."""

from __future__ import annotations

from qwen_mitm.exchange import HeaderFields

HOP_BY_HOP = frozenset(
    b"connection expect host http2-settings keep-alive proxy-authenticate proxy-authorization "
    b"proxy-connection te trailer transfer-encoding upgrade".split()
)
#: The client's own credentials. Whoever sees the flow or the upstream must not.
CREDENTIALS = frozenset(
    # Browsers can give the key of a WebSocket as a subprotocol alone.
    b"authorization proxy-authorization x-api-key api-key cookie sec-websocket-protocol".split()
)
#: What an attempt carries on the wire and a flow never shows.
ON_THE_WIRE_ALONE = frozenset(b"authorization cookie bx-umidtoken".split())
#: Client headers that mean something to OpenAI alone (responses-to-chat §2, qwen.md §2.5).
OPENAI_ONLY = frozenset(
    b"session-id session_id thread-id conversation-id conversation_id originator "
    b"x-session-affinity x-session-id x-client-request-id chatgpt-account-id".split()
)
OPENAI_PREFIXES = (b"openai-", b"x-codex-", b"x-openai-internal-")
#: What describes the client's body and not the one that is sent.
OF_THE_BODY = frozenset(
    b"accept accept-encoding content-encoding content-length content-type".split()
)
#: Upstream headers that mean something to a client.
TOLD = (b"x-request-id", b"x-ratelimit-")


def forwarded(fields: HeaderFields) -> HeaderFields:
    """The client's headers that an upstream may see with a rewritten body."""
    dropped = HOP_BY_HOP | CREDENTIALS | OPENAI_ONLY | OF_THE_BODY
    return tuple(
        (name, value)
        for name, value in fields
        if name.lower() not in dropped and not name.lower().startswith(OPENAI_PREFIXES)
    )


def header_value(fields: HeaderFields, wanted: bytes) -> str | None:
    for name, value in fields:
        if name.lower() == wanted:
            return value.decode("latin-1")
    return None
