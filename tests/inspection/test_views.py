from collections.abc import Callable

import pytest
from mitmproxy import contentviews, http
from mitmproxy.contentviews import ContentviewRegistry, prettify_message
from mitmproxy.test import taddons, tflow

from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.record import Record
from qwen_mitm.inspection.views import VIEWS

PAGE = Page(Record(model="m"), "the line", b'{"input":"from the client"}', b"data: upstream\n\n")


def registry(find: Callable[[http.HTTPFlow], Page | None]) -> ContentviewRegistry:
    made = ContentviewRegistry()
    for stock in (contentviews.raw, contentviews.json_view):
        made.register(stock)
    for view in VIEWS:
        made.register(view(find))
    return made


@pytest.fixture
def flow() -> http.HTTPFlow:
    flow = tflow.tflow(resp=True)
    flow.request.raw_content = b'{"messages":[{"role":"user","content":"upstream too"}]}'
    flow.request.headers["content-type"] = "application/json"
    return flow


def shown(flow: http.HTTPFlow, message: http.Message, view: str = "auto", **own: object) -> str:
    with taddons.context():
        found = registry(lambda _: None if own else PAGE)
        return prettify_message(message, flow, view, found).text


def test_a_turn_is_shown_by_its_own_view(flow: http.HTTPFlow) -> None:
    assert flow.response
    request, answer = shown(flow, flow.request), shown(flow, flow.response)
    assert request.startswith("the line")
    assert "from the client" in request
    assert "upstream too" in request
    assert answer.startswith("the line")
    assert "From the upstream" in answer


def test_the_bodies_that_are_in_no_message_can_be_seen_whole(flow: http.HTTPFlow) -> None:
    client = shown(flow, flow.request, "Qwen Responses request")
    assert client == '{\n  "input": "from the client"\n}'
    assert shown(flow, flow.request, "Qwen upstream answer") == "data: upstream\n\n"


def test_flows_of_others_keep_their_views(flow: http.HTTPFlow) -> None:
    assert shown(flow, flow.request, other=True).startswith("{")
    assert "not a turn of qwen-mitm" in shown(flow, flow.request, "Qwen turn", other=True)
