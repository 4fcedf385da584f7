from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from qwen_mitm.simulator import Simulator

from .chat import client_for


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(tls=False) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(simulator) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
async def secure(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[Simulator, httpx.AsyncClient]]:
    async with Simulator() as simulator, client_for(simulator, http2=request.param) as client:
        yield simulator, client
