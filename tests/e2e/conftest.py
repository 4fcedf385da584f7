from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.conftest import judge
from tests.e2e.proxy import Proxy
from tests.e2e.traffic import TRAFFIC, install

FAKE_KEY = "fake-account-key-1"

install()


@pytest.fixture(autouse=True)
def all_traffic_is_valid(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every streamed answer that a client got and every Chat request that a simulator received
    obeys the checkers; ``all_that_is_made_is_valid`` has the marker that says why not."""
    TRAFFIC.begin()
    yield
    if marker := request.node.get_closest_marker("sends_chat_itself"):
        assert marker.args, "sends_chat_itself needs a reason"
        TRAFFIC.forget_requests()
    judge(request, TRAFFIC.faults())


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mitmproxy")


@pytest.fixture(scope="session")
def simulator_session() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def simulator_http1_session() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("--no-http2") as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_session: SimulatorProcess) -> SimulatorProcess:
    simulator_session.reset()
    return simulator_session


@pytest.fixture
def simulator_http1(simulator_http1_session: SimulatorProcess) -> SimulatorProcess:
    simulator_http1_session.reset()
    return simulator_http1_session


type StartProxy = Callable[..., Proxy]


def account_of(simulator: SimulatorProcess) -> dict[str, str]:
    """The environment that makes the simulator the one account."""
    return {"QWEN_API_KEY": FAKE_KEY, "QWEN_API_BASE_URL": simulator.base_url}


def trust(simulator: SimulatorProcess) -> dict[str, str]:
    """The options that make mitmproxy trust the simulator's certificate."""
    return {"ssl_verify_upstream_trusted_ca": str(simulator.ca_pem)}


@pytest.fixture
def start_proxy(tmp_path: Path, confdir: Path) -> Iterator[StartProxy]:
    """Starts a proxy with Proxy's own arguments; it is stopped at the end of the test."""
    with ExitStack() as stack:

        def start(**arguments: object) -> Proxy:
            return stack.enter_context(Proxy(tmp_path, confdir, **arguments))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def proxy(
    simulator_session: SimulatorProcess, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Regular proxy mode, claiming portal.qwen.ai, with the simulator as its one account."""
    with Proxy(
        tmp_path_factory.mktemp("home"),
        confdir,
        env=account_of(simulator_session),
        options=trust(simulator_session),
    ) as started:
        yield started


@pytest.fixture(scope="session")
def reverse_proxy(
    simulator_session: SimulatorProcess, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Reverse mode for portal.qwen.ai, with the simulator as its one account."""
    with Proxy(
        tmp_path_factory.mktemp("home"),
        confdir,
        mode="reverse:https://portal.qwen.ai",
        env=account_of(simulator_session),
        options=trust(simulator_session),
    ) as started:
        yield started
