from __future__ import annotations

import json
from typing import Any

from qwen_mitm.clients.models import models_for
from qwen_mitm.clients.opencode import Document, for_one_run, merged, parse, stanza
from qwen_mitm.clients.provider import Provider

PROVIDER = Provider(base_url="https://portal.qwen.ai/v1", models=models_for("coding-plan"))


def written(document: Document) -> Any:
    """As OpenCode reads it."""
    return json.loads(json.dumps(document))


def test_the_stanza_tells_what_each_model_can_do() -> None:
    document = written(stanza(PROVIDER))

    models = document["provider"]["qwen"]["models"]
    assert models["qwen3-coder-plus"] == {
        "name": "Qwen3 Coder Plus",
        "tool_call": True,
        "limit": {"context": 1_000_000, "output": 65_536},
    }
    assert models["qwen3.7-plus"]["reasoning"] is True
    assert models["qwen3.7-plus"]["modalities"]["input"] == ["text", "image"]


def test_a_local_key_is_named_and_not_written_down() -> None:
    local = Provider(base_url=PROVIDER.base_url, models=PROVIDER.models, has_local_key=True)

    options = written(stanza(local))["provider"]["qwen"]["options"]
    assert options["apiKey"] == "{env:QWEN_LOCAL_KEY}"


def test_a_run_has_the_provider_and_the_model() -> None:
    given = written(for_one_run(PROVIDER, [], chosen=False))

    assert given["model"] == given["small_model"] == "qwen/qwen3-coder-plus"
    assert "qwen" in given["provider"]


def test_a_provider_of_the_persons_own_is_not_touched() -> None:
    own = parse('{"provider": {"qwen": {"models": {"mine": {}}}}, "model": "qwen/mine"}')

    # Their provider need not have any model but this one.
    assert for_one_run(PROVIDER, [own], chosen=False) == {"small_model": "qwen/mine"}


def test_the_model_that_is_named_for_a_run_is_added_to_a_provider_that_lacks_it() -> None:
    own = parse('{"provider": {"qwen": {"models": {"mine": {}}}}, "model": "qwen/mine"}')

    given = written(for_one_run(PROVIDER, [own], chosen=True))
    assert given["model"] == "qwen/qwen3-coder-plus"
    assert set(given["provider"]["qwen"]) == {"models"}
    assert set(given["provider"]["qwen"]["models"]) == {"qwen3-coder-plus"}

    listed = parse('{"provider": {"qwen": {"models": {"qwen3-coder-plus": {}}}}}')
    assert "provider" not in for_one_run(PROVIDER, [listed], chosen=True)


def test_lists_of_providers_let_ours_in_for_the_run() -> None:
    own = parse('{"enabled_providers": ["other"], "disabled_providers": ["qwen", "third"]}')

    given = for_one_run(PROVIDER, [own], chosen=False)
    assert given["enabled_providers"] == ["other", "qwen"]
    assert given["disabled_providers"] == ["third"]


def test_agents_with_a_model_of_another_vendor_have_ours_for_the_run() -> None:
    own: Document = {
        "agent": {
            "build": {"model": "other/model"},
            "plan": {"model": "bridge/their-model"},
            "mine": {"prompt": "Be kind."},
        },
        "mode": {"old": {"model": "other/model"}},
        "provider": {"bridge": {"options": {"baseURL": "https://portal.qwen.ai/v1"}}},
    }
    ours = {"model": "qwen/qwen3-coder-plus"}

    given = for_one_run(PROVIDER, [own], chosen=False)
    assert given["agent"] == {"build": ours}
    assert given["mode"] == {"old": ours}
    assert for_one_run(PROVIDER, [own], chosen=True)["agent"] == {"build": ours, "plan": ours}


def test_a_provider_at_the_claimed_host_counts_by_any_name() -> None:
    own: Document = {
        "provider": {"bridge": {"options": {"baseURL": "https://portal.qwen.ai/v1"}}},
        "model": "bridge/their-model",
    }

    assert "model" not in for_one_run(PROVIDER, [own], chosen=False)


def test_the_model_of_another_vendor_is_set_aside_for_the_run() -> None:
    given = for_one_run(PROVIDER, [{"model": "other/model"}], chosen=False)

    assert given["model"] == "qwen/qwen3-coder-plus"


def test_comments_and_trailing_commas_are_read_and_strings_left_alone() -> None:
    text = """{
      // "model": "no/model",
      "model": "qwen/a//b", /* and */ "list": ["/* kept */", "x,]",],
    }"""

    assert parse(text) == {"model": "qwen/a//b", "list": ["/* kept */", "x,]"]}
    assert parse("{ not json") == {}


def test_what_is_above_wins_and_objects_are_merged() -> None:
    below = parse('{"a": {"b": 1, "c": 2}, "d": 3}')

    assert merged(below, {"a": {"c": 4}, "d": {"e": 5}}) == {"a": {"b": 1, "c": 4}, "d": {"e": 5}}
