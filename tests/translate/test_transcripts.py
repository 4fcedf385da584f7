from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qwen_mitm.translate.assembler import AnswerContext
from qwen_mitm.translate.request import translate
from qwen_mitm.wire.responses import parse_request
from tests.translate.answers import Answer, plain_context

TRANSCRIPTS = Path(__file__).parents[1] / "fixtures" / "transcripts"
CASES = sorted(path.name for path in TRANSCRIPTS.iterdir())


def context_of(request: bytes) -> AnswerContext:
    parsed = parse_request(request)
    translation = translate(parsed)
    hidden = parsed.stream_options is not None and parsed.stream_options.include_obfuscation
    summary = translation.echo.reasoning["summary"]
    return replace(
        plain_context(),
        echo=translation.echo,
        tools=translation.tools,
        reasoning="content" if summary is None else "summary",
        estimated_input_tokens=translation.estimated_input_tokens,
        noise="x".__mul__ if hidden else None,
    )


@pytest.mark.parametrize("case", CASES)
def test_upstream_answer_becomes_the_expected_events(
    case: str, pytestconfig: pytest.Config
) -> None:
    folder = TRANSCRIPTS / case
    context = context_of((folder / "request.json").read_bytes())
    answer = Answer([(folder / "upstream.sse").read_bytes()], context)
    expected = folder / "expected.jsonl"
    if pytestconfig.getoption("--update"):
        lines = [json.dumps(event, ensure_ascii=False) for event in answer.events]
        expected.write_text("\n".join(lines) + "\n")
    assert answer.events == [json.loads(line) for line in expected.read_text().splitlines()]
