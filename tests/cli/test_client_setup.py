from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.cli.client_setup import Setup, set_up
from qwen_mitm.cli.speech import Complaint
from qwen_mitm.clients.environment import Trust, Way
from qwen_mitm.clients.models import Model, models_for
from qwen_mitm.clients.provider import Provider

WAY = Way(
    proxy="http://127.0.0.1:4321",
    base_url="https://portal.qwen.ai/v1",
    hosts=("https://portal.qwen.ai:443",),
)
TRUST = Trust(bundle="/run/bundle.pem", extra="/run/extra.pem")
FAKE_CODEX = """#!/bin/sh
[ "$1 $2 $3" = "debug models --bundled" ] || exit 2
echo '{"models": [{"use_responses_lite": false, "base_instructions": "Be brief."}]}'
"""


class Person:
    """Somebody with a home and a project."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.project = home / "project"
        (self.project / "src").mkdir(parents=True)
        (self.project / ".git").mkdir()
        self.run_folder = home / "run"
        self.run_folder.mkdir()
        self.env = {"XDG_CONFIG_HOME": str(home / ".config"), "CODEX_HOME": str(home / ".codex")}
        monkeypatch.chdir(self.project / "src")

    def write(self, path: str, text: str) -> None:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def starts(self, *command: str, models: tuple[Model, ...] = models_for("coding-plan")) -> Setup:
        return set_up(
            command,
            self.env,
            way=WAY,
            trust=TRUST,
            provider=Provider(base_url=WAY.base_url, models=models),
            chosen=False,
            folder=self.run_folder,
        )


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(tmp_path, monkeypatch)


def opencode_config(setup: Setup) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(setup.env["OPENCODE_CONFIG_CONTENT"])
    return document


def test_opencode_is_told_in_its_environment_and_of_no_other_key(person: Person) -> None:
    setup = person.starts("opencode", "run", "hello")

    assert setup.words == ("opencode", "run", "hello")
    assert opencode_config(setup)["model"] == "qwen/qwen3-coder-plus"
    assert "OPENAI_API_KEY" not in setup.env


@pytest.mark.parametrize(
    "place",
    [
        ".config/opencode/opencode.json",
        ".config/opencode/opencode.jsonc",
        "project/opencode.json",
        "project/.opencode/opencode.jsonc",
        "named.json",
    ],
)
def test_a_provider_of_ones_own_is_found_wherever_opencode_finds_it(
    person: Person, place: str
) -> None:
    person.write(place, '{"provider": {"qwen": {}}, "model": "qwen/mine"} // mine')
    person.env["OPENCODE_CONFIG"] = str(person.home / "named.json")

    given = opencode_config(person.starts("opencode"))

    assert "provider" not in given
    assert "model" not in given


def test_what_is_inline_already_stays(person: Person) -> None:
    person.env["OPENCODE_CONFIG_CONTENT"] = (
        '{"theme": "dark", "provider": {"other": {"name": "x"}}}'
    )

    given = opencode_config(person.starts("npx", "opencode-ai"))

    assert given["theme"] == "dark"
    assert set(given["provider"]) == {"other", "qwen"}


def test_codex_gets_arguments_before_its_own_and_a_catalogue_with_its_instructions(
    person: Person,
) -> None:
    codex = person.home / "codex"
    codex.write_text(FAKE_CODEX)
    codex.chmod(0o755)

    setup = person.starts(str(codex), "exec", "hello")

    assert setup.words[0] == str(codex)
    assert setup.words[-2:] == ("exec", "hello")
    config = tomllib.loads("\n".join(setup.words[2:-2:2]))
    assert config["model_provider"] == "qwen"
    catalogue = json.loads(Path(config["model_catalog_json"]).read_text())
    assert catalogue["models"][0]["base_instructions"] == "Be brief."


def test_a_codex_that_tells_no_models_goes_without_the_catalogue(person: Person) -> None:
    setup = person.starts("/no/such/codex", "exec", "hello")

    assert not any("model_catalog_json" in word for word in setup.words)
    assert any("model_context_window" in word for word in setup.words)


def test_other_programs_get_what_sdks_read(person: Person) -> None:
    setup = person.starts("python", "program.py", models=())

    assert setup.words == ("python", "program.py")
    assert setup.env["OPENAI_BASE_URL"] == "https://portal.qwen.ai/v1"
    assert "OPENCODE_CONFIG_CONTENT" not in setup.changed


@pytest.mark.parametrize("name", ["opencode", "codex"])
def test_a_client_for_which_nobody_knows_a_model_is_not_started(person: Person, name: str) -> None:
    with pytest.raises(Complaint, match="--model"):
        person.starts(name, models=())


def test_nobody_need_know_a_model_for_those_who_have_their_own(person: Person) -> None:
    own = {"provider": {"qwen": {}}, "model": "qwen/mine", "small_model": "qwen/mine"}
    person.write("project/opencode.json", json.dumps(own))
    person.write(".codex/config.toml", 'model="m"\nmodel_provider="qwen"\n[model_providers.qwen]\n')

    assert opencode_config(person.starts("opencode", models=())) == {}
    assert person.starts("codex", models=()).words == ("codex",)
