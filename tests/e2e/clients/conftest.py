from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.clients import installed
from tests.e2e.clients.programs import Agent, Codex, OpenCode, Sdk, Workshop
from tests.e2e.conftest import account_of, trust
from tests.e2e.proxy import MAIN, Proxy

SCRIPTS = (MAIN, Path(__file__).with_name("guard.py"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    names = ", ".join(f"{name} {version}" for name, version in installed.pinned().items())
    try:
        installed.folder()
    except installed.NotInstalled as reason:
        terminalreporter.write_line(f"real clients SKIPPED, {reason}: {names}", yellow=True)
    else:
        terminalreporter.write_line(f"real clients: {names}")


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder of the real clients."""
    try:
        return installed.folder()
    except installed.NotInstalled as reason:
        if installed.REQUIRED:
            pytest.fail(f"the real clients are required: {reason}")
        pytest.skip(f"no real clients: {reason}")


@pytest.fixture(scope="session")
def proxy(
    simulator_session: SimulatorProcess, confdir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """As elsewhere, and it turns away whoever asks for another host than ours."""
    with Proxy(
        tmp_path_factory.mktemp("home"),
        confdir,
        env=account_of(simulator_session),
        options=trust(simulator_session),
        scripts=SCRIPTS,
    ) as started:
        yield started


@pytest.fixture(scope="session")
def client_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty at first; one for all, because OpenCode makes a database in a new one."""
    return tmp_path_factory.mktemp("client-home")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where the clients work."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


type MakeAgent = Callable[[Proxy], Agent]


@pytest.fixture(params=[OpenCode, Codex], ids=lambda kind: kind.name)
def agent_for(
    request: pytest.FixtureRequest, clients: Path, client_home: Path, work: Path
) -> MakeAgent:
    """Makes the agent that uses a proxy."""
    return lambda proxy: request.param(Workshop(clients, client_home, work, proxy))


@pytest.fixture
def agent(agent_for: MakeAgent, proxy: Proxy) -> Agent:
    return agent_for(proxy)


@pytest.fixture(scope="session")
def node_programs(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ours beside the modules that they import."""
    folder = tmp_path_factory.mktemp("programs") / "node"
    copytree(Path(__file__).with_name("node"), folder)
    (folder / "node_modules").symlink_to(clients / "node_modules")
    return folder


@pytest.fixture(scope="session")
def workshop(
    clients: Path, client_home: Path, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Workshop:
    return Workshop(clients, client_home, tmp_path_factory.mktemp("work"), proxy)


@pytest.fixture(scope="session")
def openai_node(workshop: Workshop, node_programs: Path) -> Iterator[Sdk]:
    with _node(workshop, node_programs / "openai_sdk.mjs") as sdk:
        yield sdk


@pytest.fixture(scope="session")
def ai_sdk(workshop: Workshop, node_programs: Path) -> Iterator[Sdk]:
    with _node(workshop, node_programs / "ai_sdk.mjs") as sdk:
        yield sdk


@pytest.fixture(scope="session")
def agents_sdk(workshop: Workshop) -> Iterator[Sdk]:
    program = Path(__file__).with_name("agents_sdk.py")
    python = workshop.installed / "python" / "bin" / "python"
    with Sdk(workshop, [python, program], workshop.work / "agents_sdk.log") as sdk:
        yield sdk


def _node(workshop: Workshop, program: Path) -> Sdk:
    command: list[str | Path] = ["node", "--import", program.with_name("proxy.mjs"), program]
    return Sdk(workshop, command, workshop.work / f"{program.stem}.log")
