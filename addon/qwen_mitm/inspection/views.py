"""Content views for mitmweb, mitmproxy's console and mitmdump, all of them made of text."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.contentviews import Contentview, Metadata, SyntaxHighlight

from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.pages import answer_page, request_page
from qwen_mitm.inspection.wording import pretty, read_json

type FindPage = Callable[[http.HTTPFlow], Page | None]

#: Above those that mitmproxy's own views have.
_FIRST = 3.0
_NEVER = -1.0


class _View(Contentview):
    def __init__(self, find: FindPage) -> None:
        self._find = find

    @property
    def syntax_highlight(self) -> SyntaxHighlight:
        return "none"

    def _page(self, metadata: Metadata) -> Page:
        page = _of(metadata, self._find)
        if page is None:
            raise ValueError("not a turn of qwen-mitm")
        return page

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        return _NEVER


class QwenTurn(_View):
    """The whole turn: as request or as answer, as the message is."""

    name = "Qwen turn"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        page = self._page(metadata)
        is_request = isinstance(metadata.http_message, http.Request)
        return request_page(page, data) if is_request else answer_page(page, data)

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        return _NEVER if _of(metadata, self._find) is None else _FIRST


class QwenClientRequest(_View):
    """The client's own request, whole."""

    name = "Qwen Responses request"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        client = self._page(metadata).client or data
        parsed = read_json(client)
        return client.decode("utf-8", "replace") if parsed is None else pretty(parsed)


class QwenUpstreamAnswer(_View):
    """The upstream's own words, whole."""

    name = "Qwen upstream answer"

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        return self._page(metadata).upstream.decode("utf-8", "replace")


def _of(metadata: Metadata, find: FindPage) -> Page | None:
    flow = metadata.flow
    # Messages of a WebSocket have a flow, too.
    if not isinstance(flow, http.HTTPFlow) or metadata.http_message is None:
        return None
    return find(flow)


VIEWS = (QwenTurn, QwenClientRequest, QwenUpstreamAnswer)
