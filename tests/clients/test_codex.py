from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Any

import pytest

from qwen_mitm.clients.codex import arguments, catalogue_of, stanza
from qwen_mitm.clients.models import models_for
from qwen_mitm.clients.provider import Provider

PROVIDER = Provider(base_url="https://portal.qwen.ai/v1", models=models_for("coding-plan"))
THINKING = Provider(base_url=PROVIDER.base_url, models=models_for("coding-plan", ("qwen3.7-plus",)))
BUNDLED = json.dumps(
    {
        "models": [
            {"base_instructions": "for another protocol", "use_responses_lite": True},
            {
                "base_instructions": "You are Codex, a coding agent based on GPT-5. Be brief.",
                "use_responses_lite": False,
            },
        ]
    }
)


def read(words: Sequence[str]) -> dict[str, Any]:
    """What Codex makes of -c arguments."""
    assert set(words[::2]) <= {"-c"}
    return tomllib.loads("\n".join(words[1::2]))


def test_the_arguments_say_what_the_stanza_says() -> None:
    assert read(arguments(PROVIDER, "", chosen=False)) == tomllib.loads(stanza(PROVIDER))
    assert read(arguments(THINKING, "", chosen=True)) == tomllib.loads(stanza(THINKING))


def test_a_model_that_thinks_is_asked_to_show_it() -> None:
    config = read(arguments(THINKING, "", chosen=True))

    assert config["model"] == "qwen3.7-plus"
    assert config["model_reasoning_summary"] == "auto"
    assert "model_reasoning_effort" not in read(arguments(PROVIDER, "", chosen=False))


@pytest.mark.parametrize(
    "own",
    [
        'model = "mine"\nmodel_provider = "qwen"\n[model_providers.qwen]\nname = "Mine"\n',
        'model = "mine"\nmodel_provider = "bridge"\n'
        '[model_providers.bridge]\nbase_url = "https://portal.qwen.ai/v1"\n',
    ],
)
def test_a_provider_of_the_persons_own_that_is_in_use_is_left_alone(own: str) -> None:
    assert arguments(PROVIDER, own, chosen=False) == []


def test_a_provider_with_our_name_is_chosen_and_not_replaced() -> None:
    own = 'model = "gpt"\n[model_providers.qwen]\nname = "Mine"\n'

    config = read(arguments(PROVIDER, own, chosen=False))

    assert config["model_provider"] == "qwen"
    assert "model_providers" not in config


def test_a_file_that_codex_will_complain_of_is_no_obstacle() -> None:
    assert arguments(PROVIDER, "not toml [", chosen=False)


def test_a_local_key_is_named_and_not_written_down() -> None:
    local = Provider(base_url=PROVIDER.base_url, models=PROVIDER.models, has_local_key=True)

    assert tomllib.loads(stanza(local))["model_providers"]["qwen"]["env_key"] == "QWEN_LOCAL_KEY"


def test_the_catalogue_has_our_models_with_codexs_instructions() -> None:
    catalogue = catalogue_of(THINKING, BUNDLED)

    assert catalogue is not None
    models = {model["slug"]: model for model in json.loads(catalogue)["models"]}
    assert set(models) == {model.name for model in THINKING.models}
    first = models["qwen3.7-plus"]
    assert first["base_instructions"] == "You are Codex, a coding agent. Be brief."
    assert first["context_window"] == 1_000_000
    assert first["priority"] == 1
    assert [level["effort"] for level in first["supported_reasoning_levels"]]
    assert models["qwen3-coder-plus"]["supported_reasoning_levels"] == []


@pytest.mark.parametrize("bundled", ["", "[]", '{"models": []}', '{"models": [{"slug": "x"}]}'])
def test_without_instructions_there_is_no_catalogue(bundled: str) -> None:
    assert catalogue_of(PROVIDER, bundled) is None


def test_a_catalogue_of_the_persons_own_stays() -> None:
    own = 'model_catalog_json = "/home/me/models.json"\n'

    given = read(arguments(PROVIDER, own, chosen=False, catalogue="/run/models.json"))

    assert "model_catalog_json" not in given
