from __future__ import annotations

import json
import tomllib

from qwen_mitm.accounts.model import Account

from .terminal import Terminal


def an_account(**fields: str) -> Account:
    return Account.model_validate(
        {"name": "plan", "kind": "api_key", "api_key": "fakesecret-key", **fields}
    )


def test_opencode_is_told_of_the_models_of_the_first_accounts_provider(terminal: Terminal) -> None:
    terminal.add(an_account(provider="token-plan", base_url="https://plan.test/v1"))

    document = json.loads(terminal.run("config", "opencode").stdout)

    assert "qwen3.8-max" in document["provider"]["qwen"]["models"]
    assert document["model"].partition("/")[2] in document["provider"]["qwen"]["models"]


def test_only_the_models_that_are_named_are_told_of(terminal: Terminal) -> None:
    shown = terminal.run("config", "codex", "--model", "qwen3.7-plus").stdout

    config = tomllib.loads(shown)
    assert config["model"] == "qwen3.7-plus"
    assert config["model_providers"]["qwen"]["base_url"] == "https://portal.qwen.ai/v1"


def test_a_server_of_ones_own_needs_the_name_of_a_model(terminal: Terminal) -> None:
    terminal.add(an_account(provider="vllm", base_url="http://127.0.0.1:9/v1"))

    refused = terminal.run("config", "opencode")
    named = terminal.run("config", "opencode", "--model", "my-model")

    assert refused.exit_code == 1
    assert "--model" in refused.stderr
    assert list(json.loads(named.stdout)["provider"]["qwen"]["models"]) == ["my-model"]


def test_another_claimed_host_is_the_base_url(terminal: Terminal) -> None:
    terminal.env["QWEN_HOSTS"] = "https://bridge.test:8443"

    document = json.loads(terminal.run("config", "opencode").stdout)

    assert document["provider"]["qwen"]["options"]["baseURL"] == "https://bridge.test:8443/v1"
