"""The import rules of the design, and that every module has tests of its own."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "addon" / "qwen_mitm"
TESTS = ROOT / "tests"
PACKAGE = "qwen_mitm"

#: These decide and translate; time, randomness, disk and sockets come in as arguments.
PURE = (
    "wire",
    "translate",
    "accounts.model",
    "accounts.pool",
    "accounts.shown",
    "providers",
    "provider_hosts",
    "errors",
    "turn",
    "web_chat.errors",
    "web_chat.events",
    "web_chat.payloads",
    "web_chat.prefix",
    "web_chat.prompt",
    "web_chat.reader",
    "reports",
    "clients",
    "inspection.answer",
    "inspection.blanking",
    "inspection.case",
    "inspection.comparison",
    "inspection.conversation",
    "inspection.dashboard",
    "inspection.mapping",
    "inspection.pages",
    "inspection.prices",
    "inspection.record",
    "inspection.retranslation",
    "inspection.timeline",
    "inspection.wording",
    "observing.document",
    "observing.faults",
    "observing.labels",
    "observing.recent",
)
# fmt: off
IMPURE_MODULES = frozenset({
    "_thread", "asyncio", "concurrent", "ctypes", "glob", "http", "httpx", "io",
    "logging", "mitmproxy", "multiprocessing", "os", "pathlib", "platformdirs", "queue", "random",
    "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver",
    "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request",
    "uuid",
})
# fmt: on
#: A part of an impure module that is pure.
PURE_PARTS = frozenset({"http.HTTPStatus"})
#: datetime is pure but for these.
CLOCKS = frozenset({"datetime.now", "datetime.utcnow", "datetime.today", "date.today"})

MAY_IMPORT = {
    "mitmproxy": (
        "bridge",
        "guard",
        "hosting",
        "kept_flows",
        "reporting",
        "shared_port",
        "failover_layer",
        "inspection",
        "cli",
    ),
    "httpx": ("oauth", "web_chat", "accounts.probe", "cli", "simulator"),
    "openai": ("cli",),
    "prometheus_client": ("observing.metrics",),
    "opentelemetry": ("observing.spans",),
    "tornado": ("observing.listening",),
    "trustme": ("simulator",),
    "typer": ("cli",),
    "rich": ("cli",),
}

#: What a part may import of the package: itself and these. Others may import what they need.
BELOW: dict[str, tuple[str, ...]] = {
    "settings": (),
    "providers": (),
    "errors": (),
    "wire": ("errors",),
    "translate": ("wire", "errors", "providers"),
    "exchange": ("errors", "wire"),
    "redaction": ("errors", "wire"),
    "headers": ("exchange",),
    "outgoing": ("accounts", "errors", "exchange", "preparing", "providers", "translate", "wire"),
    "preparing": ("accounts", "errors", "exchange", "translate", "wire"),
    "journey": ("exchange", "headers", "redaction", "wire"),
    "relay": (
        "errors",
        "exchange",
        "headers",
        "journey",
        "providers",
        "redaction",
        "translate",
        "wire",
    ),
    "turn": (
        "errors",
        "exchange",
        "headers",
        "journey",
        "providers",
        "redaction",
        "translate",
        "wire",
    ),
    "attempts": (
        "accounts",
        "errors",
        "exchange",
        "oauth",
        "outgoing",
        "preparing",
        "providers",
        "redaction",
        "settings",
        "translate",
        "wire",
    ),
    "failover_layer": ("errors", "exchange", "wire"),
    "reports": (),
    "clients": (),
    "simulator": (),
    "web_chat": (
        "accounts.model",
        "accounts.resets",
        "accounts.verdicts",
        "__version__",
        "exchange",
        "oauth.transport",
        "preparing",
        "redaction",
        "responses_file",
        "translate.leaks",
        "wire",
    ),
}

#: Modules without a mirror: the file of tests that exercises them.
TESTED_IN = {
    "headers": "test_turn.py",
    "journey": "test_turn.py",
    "relay": "test_turn.py",
    "accounts.ledger": "test_attempts.py",
    "accounts.shown": "cli/test_accounts.py",
    "errors": "translate/test_failure.py",
    "exchange": "test_attempts.py",
    "failover_layer.connection": "test_failover_layer.py",
    "failover_layer.ending": "e2e/test_stopping.py",
    "failover_layer.http1": "test_failover_layer.py",
    "failover_layer.http2": "test_failover_layer.py",
    "failover_layer.listening": "test_shared_port.py",
    "failover_layer.stream": "test_failover_layer.py",
    "failover_layer.websocket": "test_websocket_layer.py",
    "intake": "test_turn.py",
    "observing.document": "observing/test_days.py",
    "observing.present": "observing/test_metrics.py",
    "outgoing": "test_attempts.py",
    "preparing": "test_attempts.py",
    "reports": "test_reporting.py",
    "clients.provider": "clients/test_opencode.py",
    "wire.answer_body": "wire/test_upstream_events.py",
    "wire.response_object": "translate/test_assembler.py",
}
#: Tested as a whole, by tests/simulator and tests/cli.
WHOLE = ("simulator", "cli")


def modules() -> list[str]:
    paths = sorted(SOURCE.rglob("*.py"))
    return [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in paths]


@functools.cache
def tree(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Absolute names of what a module imports: ``os.path``, ``qwen_mitm.wire.sse.Decoder``."""
    package = [PACKAGE, *module.split(".")[:-1]]
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            found.update(f"{origin}.{alias.name}" for alias in node.names)
    return frozenset(found)


def is_within(name: str, parents: tuple[str, ...] | frozenset[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def is_clock(expression: str) -> bool:
    return ".".join(expression.split(".")[-2:]) in CLOCKS


def closure(module: str) -> set[str]:
    """The module and all of the package that it imports, directly or not."""
    known = set(modules())
    found: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        found.add(current)
        for name in imports(current):
            inner = name.removeprefix(f"{PACKAGE}.")
            # The last word is a module of the package or a name in one.
            for target in (inner, inner.rpartition(".")[0]):
                if target in known and target not in found and inner != name:
                    waiting.append(target)
    return found


@pytest.mark.parametrize("module", [m for m in modules() if is_within(m, PURE)])
def test_pure_modules_import_nothing_that_acts_themselves_or_through_others(module: str) -> None:
    impure = {
        (importer, name)
        for importer in closure(module)
        for name in imports(importer)
        if is_within(name, IMPURE_MODULES) and name not in PURE_PARTS
    }
    assert impure == set()


@pytest.mark.parametrize("module", [m for m in modules() if is_within(m, PURE)])
def test_pure_modules_read_no_clock(module: str) -> None:
    read = {
        (reader, ast.unparse(node))
        for reader in closure(module)
        for node in ast.walk(tree(reader))
        if isinstance(node, ast.Attribute) and is_clock(ast.unparse(node))
    }
    assert read == set()


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_a_library_is_imported_where_the_design_has_it_and_nowhere_else(library: str) -> None:
    importers = {
        module
        for module in modules()
        if any(is_within(name, (library,)) for name in imports(module))
    }
    assert {m for m in importers if not is_within(m, MAY_IMPORT[library])} == set()


@pytest.mark.parametrize("part", BELOW)
def test_dependencies_point_one_way(part: str) -> None:
    allowed = tuple(f"{PACKAGE}.{name}" for name in (part, *BELOW[part]))
    found = {
        (module, name)
        for module in modules()
        if is_within(module, (part,))
        for name in imports(module)
        if is_within(name, (PACKAGE,)) and not is_within(name, allowed)
    }
    assert found == set()


def test_the_addon_does_not_import_what_only_tools_need() -> None:
    tools = (f"{PACKAGE}.cli", f"{PACKAGE}.simulator")
    found = {
        (module, name)
        for module in modules()
        if not is_within(module, ("cli", "simulator", "entry"))
        for name in imports(module)
        if is_within(name, tools)
    }
    assert found == set()


def test_the_web_chat_is_apart_from_everything_but_the_seam_and_the_commands() -> None:
    web_chat = (f"{PACKAGE}.web_chat",)
    importers = {m for m in modules() if any(is_within(name, web_chat) for name in imports(m))}
    assert {m for m in importers if not is_within(m, ("web_chat", "bridge", "cli"))} == set()


def test_no_module_shadows_one_of_the_standard_library_at_the_top() -> None:
    # mitmproxy puts addon/ first on sys.path.
    importable = {path.stem for path in (ROOT / "addon").iterdir() if path.name[0] not in "._"}
    assert importable == {"main", PACKAGE}
    assert not importable & sys.stdlib_module_names


def test_the_addon_starts_without_what_it_may_never_need() -> None:
    names = "httpx", "openai", "rich", "typer", "segno", "trustme"
    program = f"import sys, qwen_mitm.bridge; print(*{set(names)} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, env=environment, text=True).split() == []


@pytest.mark.parametrize(
    "module",
    [m for m in modules() if not is_within(m, WHOLE) and not m.endswith("__init__")],
)
def test_every_module_has_tests_of_its_own(module: str) -> None:
    *folders, name = module.split(".")
    mirror = TESTS / Path(*folders, f"test_{name}.py")
    if not mirror.exists():
        assert module in TESTED_IN, f"{mirror.relative_to(ROOT)} is missing"
        tests = (TESTS / TESTED_IN[module]).read_text("utf-8")
        package = ".".join(folders)
        imported = f"{PACKAGE}.{module} import" in tests
        assert imported or (package and f"{PACKAGE}.{package} import" in tests)
