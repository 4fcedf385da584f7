"""What a real proxy says of itself, and to whom."""

from __future__ import annotations

import os
import ssl

import httpx
import pytest

from qwen_mitm.simulator import SimulatorProcess
from qwen_mitm.status import Status
from tests.e2e.conftest import StartProxy, account_of, trust
from tests.e2e.proxy import Proxy

URL = "http://qwen.mitm/status.json"


def through(proxy: Proxy) -> httpx.Client:
    verify = ssl.create_default_context(cafile=proxy.ca)
    return httpx.Client(proxy=proxy.url, verify=verify, trust_env=False, timeout=10)


@pytest.mark.parametrize("url", [URL, URL.replace("http:", "https:")])
def test_a_proxy_tells_what_it_is(proxy: Proxy, simulator: SimulatorProcess, url: str) -> None:
    with through(proxy) as http:
        answer = http.get(url)
    status = Status.model_validate_json(answer.content)
    assert status.pid == proxy.pid
    assert status.modes == ("regular",)
    assert status.listen == ("127.0.0.1",)
    assert status.hosts == ("https://portal.qwen.ai:443",)
    assert status.confdir == str(proxy.ca.parent)
    assert status.accounts_file is None
    assert "fake-account-key" not in answer.text
    assert simulator.requests() == []


def test_a_reverse_proxy_tells_it_below_its_own_address(
    reverse_proxy: Proxy, simulator: SimulatorProcess
) -> None:
    with httpx.Client(base_url=reverse_proxy.url, trust_env=False) as http:
        answer = http.get("/qwen.mitm/status.json")
    assert Status.model_validate_json(answer.content).modes == ("reverse:https://portal.qwen.ai",)
    assert simulator.requests() == []


def test_the_local_key_is_not_told(start_proxy: StartProxy, simulator: SimulatorProcess) -> None:
    env = account_of(simulator) | {"QWEN_LOCAL_KEY": "fake-local-key"}
    with through(start_proxy(env=env, options=trust(simulator))) as http:
        answer = http.get(URL)
    assert Status.model_validate_json(answer.content).needs_local_key
    assert "fake-local-key" not in answer.text


def test_the_account_file_is_named_as_the_proxy_reads_it(start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    with through(proxy) as http:
        status = Status.model_validate_json(http.get(URL).content)
    assert status.accounts_file is not None
    assert status.accounts_file.startswith(str(proxy.home) + os.sep)
