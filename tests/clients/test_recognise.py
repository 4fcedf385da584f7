from __future__ import annotations

import shlex

import pytest

from qwen_mitm.clients.recognise import recognise


@pytest.mark.parametrize(
    ("line", "client", "at"),
    [
        ("opencode", "opencode", 1),
        ("/usr/local/bin/opencode run hello", "opencode", 1),
        (r"'C:\Users\me\npm\opencode.cmd' run", "opencode", 1),
        ("codex exec hello", "codex", 1),
        ("Codex.exe exec hello", "codex", 1),
        ("npx opencode-ai run hello", "opencode", 2),
        ("npx -y @openai/codex@0.169.0 exec hello", "codex", 3),
        ("npx --yes -p @openai/codex codex exec", "codex", 5),
        ("npm exec -- codex exec", "codex", 4),
        ("pnpm dlx opencode-ai@latest", "opencode", 3),
        ("bunx @openai/codex", "codex", 2),
        ("bun x opencode-ai", "opencode", 3),
        ("yarn dlx opencode-ai", "opencode", 3),
    ],
)
def test_clients_are_recognised_by_their_names(line: str, client: str, at: int) -> None:
    start = recognise(shlex.split(line))

    assert start is not None
    assert (start.client, start.at) == (client, at)


@pytest.mark.parametrize(
    "line",
    ["", "python codex.py", "opencodex", "npx", "npx cowsay codex", "pnpm run codex", "echo codex"],
)
def test_other_programs_are_not(line: str) -> None:
    assert recognise(shlex.split(line)) is None
