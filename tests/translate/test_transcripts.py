from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.errors import BridgeError, InvalidRequest
from qwen_mitm.inspection.retranslation import Setting, retranslated
from qwen_mitm.providers import PROFILES
from qwen_mitm.translate.assembler import AnswerContext
from qwen_mitm.translate.chat_body import chat_body
from qwen_mitm.translate.failure import refusal
from qwen_mitm.translate.request import Translation, translate
from qwen_mitm.wire.responses import parse_request
from tests.event_checker import check_events
from tests.translate.answers import Answer, plain_context

ROOT = Path(__file__).parents[2]
#: Other transcripts can be named, such as those of a bug report.
TRANSCRIPTS = Path(
    os.environ.get("QWEN_MITM_TRANSCRIPTS") or ROOT / "tests" / "fixtures" / "transcripts"
)
INDEX = TRANSCRIPTS / "README.md"
FOLDERS = sorted(path.name for path in TRANSCRIPTS.iterdir() if path.is_dir())
#: Written by qwen.export_case: they are of no row of the specification.
EXPORTED = sorted(name for name in FOLDERS if (TRANSCRIPTS / name / "case.json").exists())


def having(name: str) -> list[str]:
    return [folder for folder in FOLDERS if (TRANSCRIPTS / folder / name).exists()]


#: Those with an answer of the upstream.
CASES = [name for name in having("upstream.sse") if name not in EXPORTED]
RETRY_AFTER_S = 60


def seal(text: str) -> str:
    return f"sealed:{text}"


def unseal(token: str) -> str | None:
    return token.removeprefix("sealed:") if token.startswith("sealed:") else None


def translation_of(request: bytes, provider: str = "generic") -> Translation:
    return translate(
        parse_request(request),
        profile=PROFILES[provider],
        unseal=unseal,
        unseal_summary=unseal,
    )


def provider_of(case: str) -> str:
    """The host that the chat.json is for, if the case has one."""
    chat = TRANSCRIPTS / case / "chat.json"
    provider: str = json.loads(chat.read_text("utf-8"))["provider"] if chat.exists() else "generic"
    return provider


def context_of(case: str) -> AnswerContext:
    request = (TRANSCRIPTS / case / "request.json").read_bytes()
    options = parse_request(request).stream_options
    translation = translation_of(request, provider_of(case))
    summary = translation.echo.reasoning["summary"]
    return replace(
        plain_context(),
        echo=translation.echo,
        tools=translation.tools,
        reasoning="content" if summary is None else "summary",
        estimated_input_tokens=translation.estimated_input_tokens,
        seal=seal if "reasoning.encrypted_content" in request.decode() else None,
        seal_summary=seal if translation.compacts else None,
        noise="x".__mul__ if options is not None and options.include_obfuscation else None,
    )


def expect(path: Path, found: list[Any] | dict[str, Any], config: pytest.Config) -> None:
    """That the file says this; with ``--update`` it does from now on."""
    rows = found if isinstance(found, list) else None
    if config.getoption("--update"):
        if rows is None:
            path.write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        else:
            path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    text = path.read_text("utf-8")
    assert found == (json.loads(text) if rows is None else list(map(json.loads, text.splitlines())))


@pytest.mark.parametrize("case", CASES)
def test_upstream_answer_becomes_the_expected_events(
    case: str, pytestconfig: pytest.Config
) -> None:
    folder = TRANSCRIPTS / case
    answer = Answer([(folder / "upstream.sse").read_bytes()], context_of(case))
    request = json.loads((folder / "request.json").read_text("utf-8"))
    assert answer.response["tools"] == request.get("tools", [])
    expect(folder / "expected.jsonl", answer.events, pytestconfig)


@pytest.mark.parametrize("case", [name for name in having("upstream.sse") if name in EXPORTED])
def test_exported_turn_becomes_the_expected_events(case: str, pytestconfig: pytest.Config) -> None:
    found = events_of_case(TRANSCRIPTS / case)
    check_events(found)
    expect(TRANSCRIPTS / case / "expected.jsonl", found, pytestconfig)


def events_of_case(folder: Path) -> list[Any]:
    setting = Setting.model_validate_json((folder / "case.json").read_text("utf-8"))
    request, upstream = ((folder / name).read_bytes() for name in ("request.json", "upstream.sse"))
    return retranslated(request, upstream, setting).events


@pytest.mark.parametrize("case", having("chat.json"))
def test_request_becomes_the_expected_chat_request(case: str, pytestconfig: pytest.Config) -> None:
    folder = TRANSCRIPTS / case
    provider = provider_of(case)
    request = (folder / "request.json").read_bytes()
    translation = translation_of(request, provider)
    stream = json.loads(request).get("stream", False)
    body = chat_body(translation.chat, PROFILES[provider], stream=stream)
    found = {
        "provider": provider,
        "x-bridge-warnings": translation.report.header(),
        "body": json.loads(body),
    }
    expect(folder / "chat.json", found, pytestconfig)


@pytest.mark.parametrize("case", having("refusal.json"))
def test_client_is_told_the_expected_refusal(case: str, pytestconfig: pytest.Config) -> None:
    folder = TRANSCRIPTS / case
    upstream = folder / "upstream.json"
    request = (folder / "request.json").read_bytes()
    told: BridgeError
    if upstream.exists():
        translation_of(request)
        answer = json.loads(upstream.read_text("utf-8"))
        raw = answer["body"] if isinstance(answer["body"], str) else json.dumps(answer["body"])
        told = refusal(
            answer["status"], answer["headers"], raw.encode(), max_retry_after=RETRY_AFTER_S
        )
    else:
        with pytest.raises(InvalidRequest) as refused:
            translation_of(request)
        told = refused.value
    found = {"status": told.status, "headers": told.headers, "body": json.loads(told.body())}
    assert found["body"]["error"].keys() == {"message", "type", "param", "code"}
    expect(folder / "refusal.json", found, pytestconfig)


def index_rows() -> list[tuple[str, str]]:
    """Each row of the specification, and what shows it."""
    rows = re.findall(r"^\| (.+?) \| (.*?) \|$", INDEX.read_text("utf-8"), re.MULTILINE)
    return [(row, shown) for row, shown in rows if not row.startswith(("row", "---"))]


@pytest.mark.parametrize(("row", "shown"), index_rows())
def test_row_of_the_specification_is_shown(row: str, shown: str) -> None:
    names = re.findall(r"`(.+?)`", shown)

    assert names, f"nothing shows {row!r}"
    for name in names:
        path, _, test = name.partition("::")
        if test:
            assert f"def {test}(" in (ROOT / path).read_text("utf-8"), name
        else:
            assert name in FOLDERS, name
            assert set(CASES + having("refusal.json")) >= {name}, name


def test_every_transcript_is_in_the_index() -> None:
    named = {name for _, shown in index_rows() for name in re.findall(r"`(.+?)`", shown)}

    assert set(FOLDERS) - set(EXPORTED) <= named


def test_every_section_has_its_rows() -> None:
    sections = re.findall(r"^## (§\d+)", INDEX.read_text("utf-8"), re.MULTILINE)

    assert {"§4", "§6", "§8", "§10", "§11", "§17"} <= set(sections)
