import json
import re
import tomllib
from pathlib import Path

import pytest

from qwen_mitm.accounts.model import AccountFile
from qwen_mitm.cli import options_table

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "certs" / "README.md", ROOT / "CHANGELOG.md"]

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?P<anchor>#[^)]*)?\)")
_COMMAND = re.compile(r"(?<![\w/.-])(?:scripts|addon|certs)/[\w./-]+")


def readme() -> str:
    return DOCUMENTS[0].read_text("utf-8")


def block(info: str) -> str:
    (found,) = (match["text"] for match in _BLOCK.finditer(readme()) if match["info"] == info)
    return found


def anchors(document: Path) -> set[str]:
    """GitHub's anchors of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_options_table_is_what_the_command_prints() -> None:
    found = re.search(r"<!-- options:.*? -->\n(.*?)\n<!-- /options -->", readme(), re.DOTALL)
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


def test_the_opencode_stanza_speaks_responses_and_names_models_that_it_declares() -> None:
    config = json.loads(block("json opencode.json"))
    provider = config["provider"]["qwen"]
    assert provider["npm"] == "@ai-sdk/openai"
    assert provider["options"]["baseURL"] == "https://portal.qwen.ai/v1"
    for key in ("model", "small_model"):
        name, _, model = config[key].partition("/")
        assert name == "qwen"
        assert model in provider["models"]


def test_the_codex_provider_speaks_responses() -> None:
    config = tomllib.loads(block("toml config.toml"))
    provider = config["model_providers"][config["model_provider"]]
    assert provider["wire_api"] == "responses"
    assert provider["base_url"] == "https://portal.qwen.ai/v1"


def test_the_account_file_of_the_example_can_be_read() -> None:
    accounts = AccountFile.model_validate_json(block("json")).named()
    assert [account.kind for account in accounts] == ["api_key", "oauth"]
    assert all(account.credential for account in accounts)
