from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess

from .terminal import Terminal


@pytest.fixture(scope="package")
def simulators() -> Iterator[tuple[SimulatorProcess, SimulatorProcess]]:
    with SimulatorProcess("--plain") as here, SimulatorProcess("--plain") as there:
        yield here, there


@pytest.fixture
def simulator(simulators: tuple[SimulatorProcess, SimulatorProcess]) -> SimulatorProcess:
    here, _ = simulators
    here.reset()
    here.accounts({})
    here.oauth("terms", resource_url=here.base_url, interval=1)
    return here


@pytest.fixture
def elsewhere(simulators: tuple[SimulatorProcess, SimulatorProcess]) -> SimulatorProcess:
    _, there = simulators
    there.reset()
    there.accounts({"fakesecret-of-another-region": "region"})
    return there


@pytest.fixture
def terminal(tmp_path: Path, simulator: SimulatorProcess) -> Terminal:
    return Terminal(tmp_path, simulator)
