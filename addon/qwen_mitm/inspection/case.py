"""A turn as a transcript that the test suite takes as it is. Pure.

Nothing is in it but the conversation: what names the user or the session is left out, and ids of
the upstream are replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from qwen_mitm.errors import BridgeError
from qwen_mitm.inspection.blanking import blank_document, blank_stream, blank_text
from qwen_mitm.inspection.record import Record
from qwen_mitm.inspection.retranslation import Setting, retranslated, seal
from qwen_mitm.inspection.wording import read_json
from qwen_mitm.translate.failure import refusal

#: As the tests of transcripts have it.
RETRY_AFTER_S: Final = 60
#: Fields of a request that name somebody or some session and mean nothing to the translation.
PERSONAL: Final = frozenset(
    {
        "client_metadata",
        "metadata",
        "previous_response_id",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
)
_IDS: Final = re.compile(rb'"(?:id|request_id|system_fingerprint)"\s*:\s*"([^"\\]{6,})"')
_CALL: Final = (b"call", b"fc_", b"ctc_")

type Unseal = Callable[[str], str | None]


class NoCase(Exception):
    """Why no transcript can be made of a turn."""


def case_files(
    request: JsonValue,
    upstream: bytes,
    record: Record,
    *,
    versions: Mapping[str, str],
    unseal: Unseal,
    blank: bool,
) -> dict[str, bytes]:
    """The files by name. ``request`` is the client's, with all that it refers to.

    Raises:
        NoCase: the turn cannot be played back.
    """
    if not isinstance(request, dict):
        raise NoCase("The flow has no whole request of a client.")
    shared = {name: value for name, value in request.items() if name not in PERSONAL}
    shared = {name: opened(value, unseal) for name, value in shared.items()}
    made = blank_document(shared) if blank else shared
    files = {"request.json": _pretty(made)}
    last = record.attempts[-1] if record.attempts else None
    if last is not None and last.status is not None and 200 <= last.status < 300:
        files |= _answered(files["request.json"], upstream, record, blank=blank)
    else:
        files |= _refused(record, blank=blank)
    case: JsonValue = {**setting_of(record).model_dump(), "versions": dict(versions)}
    return files | {"case.json": _pretty(case)}


def setting_of(record: Record) -> Setting:
    return Setting(
        provider=record.attempts[-1].provider if record.attempts else "generic",
        form=record.form or "/chat/completions",
        reasoning=record.reasoning,
        seals=record.seals,
        compacts=record.compacts,
    )


def _answered(request: bytes, upstream: bytes, record: Record, *, blank: bool) -> dict[str, bytes]:
    if not upstream or record.upstream_cut:
        raise NoCase("The flow has no whole answer of the upstream.")
    provider = record.attempts[-1].provider
    if record.form not in ("/chat/completions", "/responses") or provider == "web-chat":
        raise NoCase(f"Answers of {provider} cannot be played back.")
    said = _without_ids(upstream)
    said = blank_stream(said) if blank else said
    try:
        events = retranslated(request, said, setting_of(record)).events
    except BridgeError as error:
        raise NoCase(f"Its request is refused now: {error.message}") from None
    lines = "".join(f"{json.dumps(event, ensure_ascii=False)}\n" for event in events)
    return {"upstream.sse": said, "expected.jsonl": lines.encode("utf-8", "backslashreplace")}


def _refused(record: Record, *, blank: bool) -> dict[str, bytes]:
    if record.refusal is not None:
        error: JsonValue = {
            "message": record.refusal.message,
            "type": record.refusal.type,
            "param": record.refusal.param,
            "code": record.refusal.code,
        }
        found: JsonValue = {
            "status": record.refusal.status,
            "headers": {},
            "body": {"error": error},
        }
        return {"refusal.json": _pretty(found)}
    last = record.attempts[-1] if record.attempts else None
    if last is None or last.status is None or last.status < 400 or not last.error_body:
        raise NoCase("It failed in a way that no transcript shows. Attach the saved flow instead.")
    said = _without_ids(last.error_body.encode()).decode()
    body: JsonValue = read_json(said)
    if blank:
        body = blank_document(body) if body is not None else blank_text(said)
    elif body is None:
        body = said
    raw = body if isinstance(body, str) else json.dumps(body)
    told = refusal(last.status, {}, raw.encode(), max_retry_after=RETRY_AFTER_S)
    answer: JsonValue = {"status": last.status, "headers": {}, "body": body}
    headers: dict[str, JsonValue] = dict(told.headers)
    client: JsonValue = {
        "status": told.status,
        "headers": headers,
        "body": read_json(told.body()),
    }
    return {"upstream.json": _pretty(answer), "refusal.json": _pretty(client)}


def opened(value: JsonValue, unseal: Unseal) -> JsonValue:
    """With what was sealed here in the open: nobody else has the key."""
    match value:
        case list():
            return [opened(each, unseal) for each in value]
        case dict():
            made = {name: opened(each, unseal) for name, each in value.items()}
            sealed = value.get("encrypted_content")
            if isinstance(sealed, str):
                text = unseal(sealed)
                made["encrypted_content"] = "unreadable" if text is None else seal(text)
            return made
    return value


def _without_ids(upstream: bytes) -> bytes:
    """Ids of answers and requests, by which a vendor could find the account."""
    found = dict.fromkeys(_IDS.findall(upstream))
    ids = (each for each in found if not each.startswith(_CALL))
    for number, each in enumerate(ids, 1):
        upstream = upstream.replace(each, b"id-%d" % number)
    return upstream


def _pretty(value: JsonValue) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    return text.encode("utf-8", "backslashreplace")
