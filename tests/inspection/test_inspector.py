import asyncio
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, http
from mitmproxy import io as flow_io
from mitmproxy.addons.view import View
from mitmproxy.test import taddons, tflow
from mitmproxy.tools.web.webaddons import WebAddon

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.exchange import Broken
from qwen_mitm.inspection import inspector as module
from qwen_mitm.inspection.dashboard import FAILED, FAILED_OVER
from qwen_mitm.inspection.inspector import BODIES_KEY, COLUMNS, METADATA_KEY, Inspector
from qwen_mitm.inspection.record import Link
from qwen_mitm.settings import SettingsError
from qwen_mitm.turn import Turn
from tests.inspection.turns import (
    KEY,
    UPSTREAM,
    Clock,
    a_turn,
    answers,
    body,
    limited,
    send,
)


@pytest.fixture
def context() -> Iterator[taddons.context]:
    with taddons.context(View()) as started:
        yield started


@pytest.fixture
def inspector(context: taddons.context) -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.close()


def a_flow() -> http.HTTPFlow:
    flow = tflow.tflow()
    flow.request.raw_content = body()
    return flow


async def begun(inspector: Inspector, clock: Clock) -> tuple[http.HTTPFlow, Turn]:
    flow, turn = a_flow(), a_turn(clock)
    inspector.began(flow, turn, flow.request.raw_content or b"", "")
    return flow, turn


def attempt(inspector: Inspector, flow: http.HTTPFlow, turn: Turn, account: str) -> None:
    inspector.asking(flow, turn)
    turn.outcome = None
    inspector.sent(flow, send(turn, account))


async def ended(inspector: Inspector) -> http.HTTPFlow:
    """One that a second account answered."""
    clock = Clock()
    flow, turn = await begun(inspector, clock)
    attempt(inspector, flow, turn, "work")
    turn.head(429, ())
    turn.outcome = limited()
    attempt(inspector, flow, turn, "home")
    answers(turn, clock)
    flow.response = http.Response.make(200, b"")
    inspector.ended(flow, turn, None)
    return flow


async def test_a_flow_says_what_became_of_its_turn(inspector: Inspector) -> None:
    flow = await ended(inspector)

    assert flow.comment.startswith("qwen3-coder-plus · 41.2k in → 812 out · first token")
    assert flow.comment.endswith("account home · 1 failover · dropped_tool; web_search")
    assert flow.marked == FAILED_OVER
    assert flow.response
    assert b"response.completed" in (flow.response.raw_content or b"")
    assert flow.request.headers["authorization"] == "Bearer account:home"
    page = inspector.page(flow)
    assert page
    assert page.client == body()
    assert page.upstream == b"".join(UPSTREAM)
    assert [one.account for one in page.record.attempts] == ["work", "home"]


async def test_a_flow_of_a_file_has_all_that_the_views_need(inspector: Inspector) -> None:
    flow = await ended(inspector)
    file = io.BytesIO()
    flow_io.FlowWriter(file).add(flow)
    assert KEY.encode() not in file.getvalue()
    file.seek(0)
    (loaded,) = flow_io.FlowReader(file).stream()

    assert isinstance(loaded, http.HTTPFlow)
    assert Inspector().page(loaded) == inspector.page(flow)


async def test_metadata_is_json_but_for_the_packed_bodies(inspector: Inspector) -> None:
    flow = await ended(inspector)
    assert json.dumps(flow.metadata[METADATA_KEY])
    assert "packed" in repr(flow.metadata[BODIES_KEY])
    assert len(repr(flow.metadata[BODIES_KEY])) < 120


async def test_a_turn_that_runs_is_brought_up_to_date_by_the_clock(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UPDATE_S", 0.001)
    updated: asyncio.Queue[str] = asyncio.Queue()

    class Witness:
        def update(self, flows: list[http.HTTPFlow]) -> None:
            updated.put_nowait(flows[0].comment)

    clock = Clock()
    with taddons.context(View(), Witness()):
        flow, turn = await begun(inspector, clock)
        attempt(inspector, flow, turn, "work")
        clock.now += 5
        assert await _seen(updated, "waiting 5 s")
        turn.head(200, ())
        turn.offer(UPSTREAM[0])
        turn.open()
        turn.accepted()
        turn.feed(UPSTREAM[1])
        flow.response = http.Response.make(200, b"")
        assert await _seen(updated, "2 pieces")
        page = inspector.page(flow)
        assert page
        assert page.record.status == "in_progress"
        assert b"The capital" in page.upstream
        assert b"The capital" in (flow.response.raw_content or b"")


async def _seen(updated: asyncio.Queue[str], words: str) -> bool:
    async with asyncio.timeout(5):
        while words not in await updated.get():
            pass
    return True


async def test_nothing_runs_where_nobody_looks() -> None:
    with taddons.context():
        inspector = Inspector()
        await begun(inspector, Clock())
        assert inspector._timer is None


async def test_what_a_person_marked_stays_so(inspector: Inspector) -> None:
    flow, turn = await begun(inspector, Clock())
    flow.marked = ":star:"
    inspector.ended(flow, turn, "Client disconnected.")
    assert flow.marked == ":star:"


async def test_a_turn_that_ends_in_a_refusal_says_it(inspector: Inspector) -> None:
    flow, turn = await begun(inspector, Clock())
    attempt(inspector, flow, turn, "work")
    said = json.dumps({"error": {"message": "all are limited"}}).encode()
    flow.response = http.Response.make(429, said)
    inspector.ended(flow, turn, "refused with 429")
    assert flow.comment == ("qwen3-coder-plus · failed · account work · all are limited")
    assert flow.marked == FAILED
    assert flow.response.raw_content == said


async def test_a_client_that_leaves_breaks_its_turn_off(inspector: Inspector) -> None:
    flow, turn = await begun(inspector, Clock())
    flow.error = tflow.terr("Client disconnected.")
    inspector.ended(flow, turn, "Client disconnected.")
    assert flow.comment == "qwen3-coder-plus · broken off · Client disconnected."


def test_a_request_that_is_refused_here_is_marked(inspector: Inspector) -> None:
    flow = a_flow()
    inspector.refused(flow, InvalidRequest("Send text."))
    assert flow.comment == "request · refused · 400: Send text."
    page = inspector.page(flow)
    assert page
    assert page.record.refusal


def test_flows_of_others_have_no_page(inspector: Inspector) -> None:
    flow = a_flow()
    assert inspector.page(flow) is None
    flow.metadata[METADATA_KEY] = "of another addon"
    assert inspector.page(flow) is None


async def test_a_compressed_request_is_shown_as_it_was_meant(inspector: Inspector) -> None:
    flow, turn = a_flow(), a_turn(Clock())
    inspector.began(flow, turn, gzip.compress(body()), "gzip")
    page = inspector.page(flow)
    assert page
    assert page.client == body()


def a_server(started: float) -> connection.Server:
    server = tflow.tserver_conn()
    server.timestamp_start = started
    server.timestamp_tcp_setup = started + 0.02
    server.timestamp_tls_setup = started + 0.05
    server.peername = ("192.0.2.1", 443)
    return server


@pytest.mark.parametrize(("earlier", "reused"), [(10.0, True), (-10.0, False)])
async def test_each_attempt_has_its_connection(
    context: taddons.context, earlier: float, reused: bool
) -> None:
    inspector = Inspector(lambda: 1_000.0)
    clock = Clock()
    flow, turn = await begun(inspector, clock)
    attempt(inspector, flow, turn, "gone")
    turn.outcome = Broken("nobody is there", "connect")
    attempt(inspector, flow, turn, "work")
    flow.server_conn = a_server(1_000.0 - earlier)
    answers(turn, clock)
    inspector.ended(flow, turn, None)
    page = inspector.page(flow)
    assert page
    first, second = page.record.attempts
    assert first.link is None
    assert second.link
    expected = Link(
        peer="192.0.2.1:443", reused=reused, tcp_s=0.02, tls_s=0.03, tls="TLSv1.2", alpn=""
    )
    assert second.link.model_copy(update={"alpn": ""}) == expected


async def test_costs_are_of_the_users_prices(inspector: Inspector, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(
        '{"date": "2026-11-01", "models": {"qwen3-coder-plus": {"input": 1, "output": 5}}}'
    )
    inspector.price(str(prices))
    flow = await ended(inspector)
    assert "· 0.0453 USD ·" in flow.comment
    page = inspector.page(flow)
    assert page
    assert page.record.priced == "2026-11-01"
    inspector.price("")
    assert "USD" not in (await ended(inspector)).comment


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("{")])
def test_prices_that_cannot_be_read_are_an_error_of_the_option(
    inspector: Inspector, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    make(tmp_path / "prices.json")
    with pytest.raises(SettingsError, match=r"qwen_prices: .*prices\.json cannot be used"):
        inspector.price(str(tmp_path / "prices.json"))


def test_mitmwebs_list_has_the_lines_and_those_of_others_are_named() -> None:
    with taddons.context(WebAddon()) as context:
        inspector = Inspector()
        inspector.running()
        assert tuple(context.options.web_columns) == COLUMNS
        flow = a_flow()
        inspector.other(flow)
        assert flow.comment == "GET http://address:22/path"


def test_columns_that_were_chosen_stay() -> None:
    with taddons.context(WebAddon()) as context:
        context.options.update(web_columns=["path"])
        inspector = Inspector()
        inspector.running()
        assert list(context.options.web_columns) == ["path"]
        flow = a_flow()
        inspector.other(flow)
        assert flow.comment == ""
