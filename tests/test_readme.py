import json
import re
import shlex
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from qwen_mitm.accounts.cooldown import CooldownReason
from qwen_mitm.accounts.model import AccountFile
from qwen_mitm.accounts.shown import in_words
from qwen_mitm.bridge import QwenBridge
from qwen_mitm.cli import app, options_table
from qwen_mitm.clients import codex, opencode
from qwen_mitm.clients.models import model_named
from qwen_mitm.clients.provider import Provider
from qwen_mitm.inspection.prices import read_prices
from qwen_mitm.observing.faults import ADVICE
from qwen_mitm.observing.metrics import Metrics
from qwen_mitm.provider_hosts import VENDORS
from qwen_mitm.settings import OPTION_PREFIX, Settings, env_name
from qwen_mitm.web_chat.credentials import COOKIES_VARIABLE, TOKEN_VARIABLE
from tests.observing.test_metrics import present
from tests.observing.test_spans import spans_of
from tests.observing.turns import a_turn

ROOT = Path(__file__).parents[1]
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*MANUAL, ROOT / "certs" / "README.md", ROOT / "CHANGELOG.md"]

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?P<anchor>#[^)]*)?\)")
_CLI = re.compile(
    r"(?<![\w-])qwen-mitm "
    r"((?:login|accounts|demo|doctor|options|run|env|config)(?: (?!-->)[\w./:=\[\]-]+)*)"
)
_COMMAND = re.compile(r"(?<![\w/.-])(?:scripts|addon|certs|docs)/[\w./-]+")


def manual() -> str:
    """The README and what it leads to."""
    return "\n".join(document.read_text("utf-8") for document in MANUAL)


def block(info: str) -> str:
    (found,) = (match["text"] for match in _BLOCK.finditer(manual()) if match["info"] == info)
    return found


def anchors(document: Path) -> set[str]:
    """GitHub's anchors of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_options_table_is_what_the_command_prints() -> None:
    found = re.search(r"<!-- options:.*? -->\n(.*?)\n<!-- /options -->", manual(), re.DOTALL)
    assert found
    assert found[1] == options_table.markdown(), (
        "paste the output of `qwen-mitm options --markdown` between the markers"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_local_links_lead_to_files_and_headings(document: Path) -> None:
    for match in _LINK.finditer(document.read_text("utf-8")):
        target = document.parent / match["path"] if match["path"] else document
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"].removeprefix("#") in anchors(target), match[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_of_the_repository_that_are_named_exist(document: Path) -> None:
    for path in _COMMAND.findall(document.read_text("utf-8")):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_the_stanzas_are_what_the_command_prints() -> None:
    told = tuple(model_named(name) for name in ("qwen3-coder-plus", "qwen3.7-plus"))
    both = Provider(base_url="https://portal.qwen.ai/v1", models=told)
    assert json.loads(block("json opencode.json")) == opencode.stanza(both)
    assert block("toml config.toml") == codex.stanza(replace(both, models=told[:1]))


def test_the_prices_of_the_example_can_be_read() -> None:
    assert read_prices(block("json prices.json")).models


def test_the_account_file_of_the_example_can_be_read() -> None:
    accounts = AccountFile.model_validate_json(block("json")).named()
    assert [account.kind for account in accounts] == ["api_key", "oauth"]
    assert all(account.credential for account in accounts)


@pytest.mark.parametrize("line", sorted(set(_CLI.findall(manual()))))
def test_commands_that_are_named_exist_with_their_options(line: str) -> None:
    # What follows is another program's.
    words = shlex.split(line.partition(" -- ")[0])
    command: object = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    assert isinstance(command, TyperCommand | TyperGroup)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_each_provider_is_listed_with_the_hosts_that_login_asks() -> None:
    rows = {row.partition("|")[0]: row for row in re.findall(r"^\| (`.*)$", manual(), re.MULTILINE)}
    for vendor in VENDORS.values():
        (row,) = (row for names, row in rows.items() if f"`{vendor.provider}`" in names)
        assert set(re.findall(r"https://[^`]+", row)) == set(vendor.base_urls)


def test_options_variables_and_prompt_commands_that_are_named_exist() -> None:
    fields = Settings.model_fields
    options = {OPTION_PREFIX + name for name in fields}
    assert set(re.findall(r"\bqwen_(?!mitm\b)[a-z_]+", manual())) <= options | metrics()
    for module in re.findall(r"\bqwen_mitm(?:\.\w+)+", manual()):
        assert find_spec(module), module
    variables = {env_name(name) for name in fields} | {
        "QWEN_API_KEY",
        TOKEN_VARIABLE,
        COOKIES_VARIABLE,
    }
    scripts = [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    variables |= {
        v for s in scripts for v in re.findall(r"QWEN_MITM_[A-Z_]+", s.read_text("utf-8"))
    }
    assert set(re.findall(r"\bQWEN_[A-Z_]+", manual())) <= variables
    spans = {name for span in spans_of(a_turn("plan")) for name in span.attributes or ()}
    commands = {getattr(member, "command_name", None) for member in vars(QwenBridge).values()} - {
        None
    }
    assert (
        set(re.findall(r"\bqwen\.(?!ai\b|json\b|mitm\b)[a-z_.]+\b", manual())) - spans == commands
    )


def metrics() -> set[str]:
    """The names of all that Prometheus is told."""
    return set(re.findall(r"^# HELP (\w+)", Metrics(present).page().decode(), re.MULTILINE))


def test_every_metric_and_every_class_of_failures_is_in_the_manual() -> None:
    own = {name for name in metrics() if not name.endswith("_created")}
    for name in own - {name for name in own if name.startswith("qwen_process_")}:
        assert f"`{name}`" in manual()
    for kind in ADVICE:
        assert f"`{kind}`" in manual()


def test_every_state_of_a_limited_account_is_explained() -> None:
    for reason in get_args(CooldownReason.__value__):
        assert f"{in_words(reason)}`" in manual()
