import ssl

import httpx

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.conftest import FAKE_KEY
from tests.e2e.proxy import Proxy

REQUEST = {"model": "qwen3-coder-plus", "input": "hello", "stream": True}


def test_a_claimed_request_reaches_the_account_with_its_bearer_and_not_the_clients(
    proxy: Proxy, simulator: SimulatorProcess
) -> None:
    verify = ssl.create_default_context(cafile=proxy.ca)
    with httpx.Client(proxy=proxy.url, verify=verify, trust_env=False) as client:
        answer = client.post(
            "https://portal.qwen.ai/v1/responses",
            json=REQUEST,
            headers={"authorization": "Bearer fake-client-key", "cookie": "fake=1"},
        )

    assert answer.status_code == 200
    assert "event: response.completed" in answer.text
    (received,) = simulator.requests(received=1)
    headers = {name.lower(): value for name, value in received["headers"]}
    assert received["path"] == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {FAKE_KEY}"
    assert "cookie" not in headers


def test_reverse_mode_takes_plain_http_from_the_client(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{reverse_proxy.url}/v1/responses", json=REQUEST)

    assert answer.status_code == 200
    assert "event: response.completed" in answer.text
