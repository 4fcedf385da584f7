from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qwen_mitm.simulator import Simulator

from .logins import Desk


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(tls=False) as running:
        yield running


@pytest.fixture
async def desk(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(simulator, tmp_path / "config" / "accounts.json")
    yield desk
    await desk.refresher.aclose()
