"""What Codex alone does: compaction, freeform tools, namespaces, schemas, images."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.simulator import SimulatorProcess
from tests.e2e.accounts import chats
from tests.e2e.clients.programs import BASE_URL, Codex, Workshop
from tests.e2e.proxy import Proxy
from tests.e2e.test_openai_client import PIXEL

OPENAI_PROVIDER = ("model_provider=openai", f'openai_base_url="{BASE_URL}"')


@pytest.fixture
def codex(
    clients: Path, tmp_path: Path, work: Path, proxy: Proxy, simulator: SimulatorProcess
) -> Codex:
    """Its home is its own: `resume --last` goes on from what was last there."""
    return Codex(Workshop(clients, tmp_path, work, proxy))


@pytest.mark.parametrize("settings", [(), OPENAI_PROVIDER], ids=["own provider", "openai provider"])
def test_a_conversation_that_grew_too_long_is_compacted(
    codex: Codex, settings: tuple[str, ...], simulator: SimulatorProcess
) -> None:
    codex.ask("the first question", settings=settings)

    done = codex.ask(
        "the second question",
        settings=[*settings, "model_auto_compact_token_limit=100"],
        arguments=["resume", "--last"],
    )

    assert done.status == 0, done.shown
    assert "context compacted" in done.shown
    assert "You said “the second question”" in done.out
    _, compaction, after = (request["json"]["messages"] for request in chats(simulator))
    assert compaction[-2]["role"] == "assistant"
    said = [message["content"] for message in after]
    assert [message["role"] for message in after].count("assistant") == 0
    # What the model said of the conversation stands for it.
    assert any("You said" in str(content) for content in said)


def test_a_freeform_patch_is_applied(codex: Codex, work: Path) -> None:
    patch = '*** Begin Patch\n*** Add File: new.txt\n+grüße 🎉 "q" \\n\n*** End Patch'

    # A model that it knows to take freeform tools.
    done = codex.ask(f"call:apply_patch{json.dumps({'input': patch})}", model="gpt-5.5")

    assert done.status == 0, done.shown
    assert (work / "new.txt").read_text("utf-8") == 'grüße 🎉 "q" \\n\n'


def test_a_script_of_the_newest_models_is_run(
    codex: Codex, work: Path, simulator: SimulatorProcess
) -> None:
    script = 'text((await tools.exec_command({cmd: "echo 🎉 > a; cat a"})).output)'

    done = codex.ask(f"call:exec{json.dumps({'input': script})}", model="gpt-6-sol")

    assert done.status == 0, done.shown
    assert (work / "a").read_text("utf-8") == "🎉\n"
    result = chats(simulator)[1]["json"]["messages"][-1]
    assert "🎉" in result["content"]


def test_a_tool_of_a_namespace_is_found(codex: Codex) -> None:
    marker = "multi_agent_v1__close_agent" + json.dumps({"target": "no such agent"})

    done = codex.ask(f"call:{marker}", settings=["features.multi_agent=true"])

    assert done.status == 0, done.shown
    assert "unsupported call" not in done.shown
    assert "no such agent" in done.out


def test_an_answer_keeps_to_the_schema_that_was_asked_for(codex: Codex, tmp_path: Path) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))

    done = codex.ask("the weather", arguments=["--output-schema", tmp_path / "schema.json"])

    assert json.loads(done.out).keys() == {"city"}


def test_an_image_is_seen(codex: Codex, tmp_path: Path) -> None:
    (tmp_path / "pixel.png").write_bytes(base64.b64decode(PIXEL))

    done = codex.ask("look", arguments=["--image", tmp_path / "pixel.png"])

    assert "I see 1 image(s): 1x1" in done.out
