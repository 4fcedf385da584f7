import json
from collections.abc import Iterator

import pytest
from mitmproxy import connection, exceptions, http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.test import taddons, tflow, tutils

from qwen_mitm import bridge as bridge_module
from qwen_mitm.bridge import QwenBridge
from qwen_mitm.inspection.inspector import METADATA_KEY

BODY = b'{"model":"m","input":"hi","stream":true}'


@pytest.fixture
def context(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[taddons.context]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("QWEN_API_KEY", "fake-account-key")
    monkeypatch.setenv("QWEN_API_BASE_URL", "https://plan.test/base/v1")
    with taddons.context(Proxyserver()) as started:
        yield started


@pytest.fixture
def bridge(context: taddons.context) -> Iterator[QwenBridge]:
    addon = QwenBridge()
    context.master.addons.add(addon)
    context.configure(addon)
    yield addon
    addon.done()


def a_flow(
    host: str = "portal.qwen.ai",
    *,
    path: str = "/v1/responses",
    port: int = 443,
    method: bytes = b"POST",
    content: bytes = BODY,
    fields: tuple[tuple[bytes, bytes], ...] = (),
) -> http.HTTPFlow:
    request = tutils.treq(
        scheme=b"https",
        host=host,
        port=port,
        path=path.encode(),
        method=method,
        content=content,
        headers=http.Headers(fields),
    )
    return tflow.tflow(req=request)


def error_of(flow: http.HTTPFlow) -> dict[str, object]:
    assert flow.response
    error = json.loads(flow.response.content or b"")["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error


def pass_through(bridge: QwenBridge, flow: http.HTTPFlow) -> http.HTTPFlow:
    bridge.requestheaders(flow)
    bridge.request(flow)
    return flow


def test_the_hosts_name_decides_by_destination_and_never_by_header(bridge: QwenBridge) -> None:
    assert bridge.claims(a_flow())
    assert bridge.claims(a_flow("Portal.Qwen.AI."))
    assert not bridge.claims(a_flow("other.test", fields=((b"Host", b"portal.qwen.ai"),)))
    assert not bridge.claims(a_flow(port=8443))


def test_the_clients_credentials_leave_the_flow_before_it_can_be_seen(bridge: QwenBridge) -> None:
    flow = a_flow(fields=((b"Authorization", b"Bearer fake-client"), (b"Cookie", b"fake=1")))
    bridge.requestheaders(flow)
    assert "fake" not in str(flow.request.headers)


def test_a_flow_that_is_not_ours_is_left_alone(bridge: QwenBridge) -> None:
    flow = a_flow("other.test", fields=((b"Authorization", b"Bearer fake-client"),))
    pass_through(bridge, flow)
    assert flow.request.headers["authorization"] == "Bearer fake-client"
    assert flow.response is None


def test_a_request_that_cannot_be_translated_is_answered_here(bridge: QwenBridge) -> None:
    flow = pass_through(bridge, a_flow(content=b"{"))
    assert flow.response
    assert flow.response.status_code == 400
    assert error_of(flow)["type"] == "invalid_request_error"


def test_a_bug_in_the_translation_is_answered_here(
    bridge: QwenBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> object:
        raise KeyError

    monkeypatch.setattr(bridge_module, "begin", bug)
    flow = pass_through(bridge, a_flow())
    assert flow.response
    assert flow.response.status_code == 500
    assert error_of(flow)["code"] == "translation_fault"


UPGRADE = (
    (b"Authorization", b"Bearer fake-client"),
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key.fake-client"),
)


def an_upgrade(*more: tuple[bytes, bytes]) -> http.HTTPFlow:
    return a_flow(method=b"GET", content=b"", fields=(*UPGRADE, *more))


def a_socket(bridge: QwenBridge) -> http.HTTPFlow:
    flow = pass_through(bridge, an_upgrade())
    bridge.response(flow)
    return flow


def a_turn(bridge: QwenBridge, socket: http.HTTPFlow, body: str) -> http.HTTPFlow:
    flow = a_flow(content=body.encode())
    assert bridge.begin_turn(socket, flow)
    return pass_through(bridge, flow)


def test_a_websocket_upgrade_is_answered_here(bridge: QwenBridge) -> None:
    flow = pass_through(bridge, an_upgrade())
    assert flow.response
    assert flow.response.status_code == 101
    assert flow.response.headers["upgrade"] == "websocket"
    assert "fake-client" not in str(flow.request.headers)


@pytest.mark.parametrize("option", ["qwen_websocket", "websocket"])
def test_an_upgrade_is_answered_426_when_websocket_is_off(
    context: taddons.context, bridge: QwenBridge, option: str
) -> None:
    context.options.update(**{option: False})
    flow = pass_through(bridge, an_upgrade())
    assert flow.response
    assert flow.response.status_code == 426
    assert error_of(flow)["code"] == "websocket_not_supported"


def test_an_upgrade_over_http2_is_answered_426(bridge: QwenBridge) -> None:
    flow = an_upgrade()
    flow.request.http_version = "HTTP/2.0"
    assert error_of(pass_through(bridge, flow))["code"] == "websocket_not_supported"


def test_an_upgrade_by_a_web_page_is_refused(bridge: QwenBridge) -> None:
    flow = pass_through(bridge, an_upgrade((b"Origin", b"https://page.test")))
    assert flow.response
    assert flow.response.status_code == 401
    assert not bridge.begin_turn(flow, a_flow())


def test_each_turn_of_a_socket_is_admitted_with_the_key_of_its_upgrade(
    context: taddons.context, bridge: QwenBridge
) -> None:
    context.options.update(qwen_local_key="fake-client")
    socket = a_socket(bridge)
    turn = a_turn(bridge, socket, BODY.decode())
    assert turn.response is None
    assert bridge.exchange(turn)
    context.options.update(qwen_local_key="fake-other")
    refused = a_turn(bridge, socket, BODY.decode())
    assert refused.response
    assert refused.response.status_code == 401


def test_a_warm_up_is_answered_here_and_can_be_built_on(bridge: QwenBridge) -> None:
    socket = a_socket(bridge)
    warm = a_turn(bridge, socket, '{"model":"m","generate":false,"store":false,"stream":true}')
    assert warm.response
    assert bridge.exchange(warm) is None
    last = json.loads((warm.response.text or "").split("data: ")[-2])
    assert (last["type"], last["response"]["output"]) == ("response.completed", [])
    previous = last["response"]["id"]
    body = json.dumps({"model": "m", "input": "hi", "previous_response_id": previous})
    assert bridge.exchange(a_turn(bridge, socket, body))
    other = a_turn(bridge, a_socket(bridge), body)
    assert error_of(other)["code"] == "previous_response_not_found"


def test_nothing_is_kept_of_a_socket_that_ended(bridge: QwenBridge) -> None:
    socket = a_socket(bridge)
    bridge.response(a_turn(bridge, socket, BODY.decode()))
    bridge.websocket_end(socket)
    assert socket.comment == "WebSocket · 1 turn"
    assert not bridge.begin_turn(socket, a_flow())
    assert bridge._arrivals == {}


async def test_the_flow_shows_what_was_sent_and_not_with_which_key(bridge: QwenBridge) -> None:
    flow = pass_through(bridge, a_flow())
    exchange = bridge._exchanges[flow.id]

    await bridge.qwen_attempt(exchange)

    assert flow.request.pretty_url == "https://plan.test/base/v1/chat/completions"
    assert json.loads(flow.request.content or b"")["messages"]
    assert flow.request.headers["authorization"] == "Bearer account:QWEN_API_KEY"
    assert bridge.claims(flow)


async def test_nothing_is_kept_of_a_flow_that_ended(bridge: QwenBridge) -> None:
    flow = pass_through(bridge, a_flow())
    await bridge.qwen_attempt(bridge._exchanges[flow.id])
    flow.response = http.Response.make(200, b"")

    bridge.response(flow)

    assert bridge.exchange(flow) is None
    assert not bridge._arrivals
    assert json.dumps(flow.metadata[METADATA_KEY])


async def test_a_turn_is_not_replayed_with_its_placeholder(bridge: QwenBridge) -> None:
    flow = a_flow("plan.test")
    flow.metadata[METADATA_KEY] = {}
    flow.is_replay = "request"
    bridge.request(flow)
    assert flow.response
    assert flow.response.status_code == 400


@pytest.mark.parametrize(("peer", "refused"), [("127.0.0.1", False), ("192.0.2.7", True)])
def test_only_programs_on_this_machine_may_connect(
    bridge: QwenBridge, peer: str, refused: bool
) -> None:
    client = connection.Client(peername=(peer, 5), sockname=("127.0.0.1", 8080))
    bridge.client_connected(client)
    assert bool(client.error) is refused


def test_a_bad_value_while_running_is_rolled_back(
    context: taddons.context, bridge: QwenBridge
) -> None:
    bridge._running = True
    with pytest.raises(exceptions.OptionsError, match="qwen_hosts"):
        context.options.update(qwen_hosts=["https://a.test/path"])
    assert context.options.qwen_hosts == ["portal.qwen.ai"]


def test_credentials_are_not_sent_to_whoever_answers(
    context: taddons.context, bridge: QwenBridge
) -> None:
    bridge._running = True
    with pytest.raises(exceptions.OptionsError, match="qwen_allow_insecure"):
        context.options.update(ssl_insecure=True)
    context.options.update(qwen_allow_insecure=True)
    context.options.update(ssl_insecure=True)


def test_the_accounts_can_be_listed_from_mitmproxys_prompt(
    context: taddons.context, bridge: QwenBridge
) -> None:
    assert context.master.commands.execute("qwen.accounts") == ["QWEN_API_KEY · API key · ok"]
    context.master.commands.execute("qwen.clear_cooldown QWEN_API_KEY")
    context.master.commands.execute("qwen.clear_cooldown")
