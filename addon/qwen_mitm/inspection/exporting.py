"""Writes a turn as a transcript."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from mitmproxy import version
from pydantic import JsonValue

from qwen_mitm import __version__
from qwen_mitm.errors import BridgeError
from qwen_mitm.inspection.case import NoCase, case_files, opened, setting_of
from qwen_mitm.inspection.comparison import differences
from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.retranslation import retranslated
from qwen_mitm.inspection.wording import read_json
from qwen_mitm.seal import Seal
from qwen_mitm.state import expand
from qwen_mitm.stored_response import ResponseStore
from qwen_mitm.wire.responses import parse_request

VERSIONS = {
    "qwen_mitm": __version__,
    "mitmproxy": version.VERSION,
    "python": platform.python_version(),
}


def export(
    page: Page, body: bytes, folder: Path, *, store: ResponseStore, seal: Seal, blank: bool
) -> None:
    """Write the files of a turn into a new or empty folder.

    ``body`` is the request as the flow has it: that of a request that was refused here is there.

    Raises:
        NoCase: nothing is written, and why.
    """

    def unseal(token: str) -> str | None:
        return seal.unseal("thought", token) or seal.unseal("compaction", token)

    client = page.client or body
    try:
        request = _whole(client, store) if page.record.refusal is None else read_json(client)
        files = case_files(
            request, page.upstream, page.record, versions=VERSIONS, unseal=unseal, blank=blank
        )
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise NoCase(f"{folder} is not empty.")
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except BridgeError as error:
        raise NoCase(error.message) from None
    except OSError as error:
        raise NoCase(f"{folder} cannot be written: {error.strerror}") from None


def retranslate(
    page: Page, body: bytes, answer: bytes, *, store: ResponseStore, seal: Seal
) -> list[str]:
    """What today's translation makes otherwise of the turn; nothing is sent.

    Raises:
        NoCase: it cannot be translated again, and why.
    """

    def unseal(token: str) -> str | None:
        return seal.unseal("thought", token) or seal.unseal("compaction", token)

    setting = setting_of(page.record)
    if not page.client or page.record.refusal is not None or setting.provider == "web-chat":
        raise NoCase("This turn cannot be translated again.")
    try:
        request = json.dumps(opened(_whole(page.client, store), unseal)).encode()
        today = retranslated(request, page.upstream, setting)
    except BridgeError as error:
        raise NoCase(error.message) from None
    return differences(body, answer, today)


def _whole(client: bytes, store: ResponseStore) -> JsonValue:
    """The client's request with the conversation that it goes on from."""
    request = parse_request(client)
    document: dict[str, JsonValue] = json.loads(client)
    if request.previous_response_id is None:
        return document
    items = expand(request, client, store).stored({}).input
    del document["previous_response_id"]
    return {**document, "input": [json.loads(item) for item in items]}
