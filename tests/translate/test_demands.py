import json
from dataclasses import replace
from typing import Any

import pytest

from qwen_mitm.providers import GENERIC, PROFILES, WEB_CHAT, Dialect
from qwen_mitm.translate.demands import Demands, demands_of
from qwen_mitm.wire.responses import parse_request

FILE = {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}


def demands(*items: Any) -> Demands:
    return demands_of(parse_request(json.dumps({"model": "m", "input": items}).encode()))


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": parts}


def test_a_file_or_audio_is_found_in_messages_and_in_outputs() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": [FILE]}
    assert demands(user(FILE)) == demands(output) == Demands(files=True)
    assert demands({"role": "user", "content": "hi"}, user(AUDIO)) == Demands(audio=True)


def test_a_picture_goes_to_a_host_that_looks_at_pictures_if_there_is_one() -> None:
    asked = demands(user({"type": "input_image", "image_url": "https://example.com/a.png"}))
    assert asked.unmet(Dialect(WEB_CHAT)) > asked.unmet(Dialect(GENERIC)) == 0


def test_what_passes_as_it_is_needs_a_host_with_other_paths() -> None:
    passing = Demands(passing=True)
    assert passing.unmet(Dialect(WEB_CHAT)) > passing.unmet(Dialect(GENERIC)) == 0


def test_text_and_files_that_no_host_has_demand_nothing() -> None:
    elsewhere = {"type": "input_file", "file_id": "file-1"}
    assert not demands(user({"type": "input_text", "text": "hi"}, elsewhere))
    assert not demands_of(parse_request(b'{"model": "m", "input": "hi"}'))


@pytest.mark.parametrize(
    ("wanted", "by_merit"),
    [
        (Demands(files=True), ["openrouter", "dashscope"]),
        (Demands(audio=True), ["dashscope", "portal"]),
        (Demands(files=True, audio=True), ["openrouter", "dashscope", "portal"]),
    ],
)
def test_hosts_are_ranked_by_what_they_do_not_take(wanted: Demands, by_merit: list[str]) -> None:
    unmet = [wanted.unmet(Dialect(PROFILES[name])) for name in by_merit]
    assert unmet[0] == 0
    assert unmet == sorted(set(unmet))


def test_a_tool_of_the_host_that_must_be_used_goes_to_a_host_that_has_it() -> None:
    body = {"model": "m", "input": "hi", "tools": [{"type": "web_search"}]}

    def of(choice: Any) -> Demands:
        return demands_of(parse_request(json.dumps({**body, "tool_choice": choice}).encode()))

    wanted = of({"type": "web_search_preview"})
    assert wanted == Demands(forced="web_search")
    studio = PROFILES["dashscope"]
    assert wanted.unmet(studio.dialect("responses", "qwen3.7-plus")) == 0
    assert wanted.unmet(studio.dialect("chat", "qwen3.7-plus")) > 0
    assert wanted.unmet(PROFILES["openrouter"].dialect("responses", "m")) > 0
    for choice in ("auto", "required", {"type": "shell"}, {"type": "function", "name": "f"}):
        assert not of(choice)


def test_to_be_refused_is_worse_than_to_lose_everything_else() -> None:
    all_of_it = Demands(files=True, audio=True, images=True)
    loses, refuses = Dialect(WEB_CHAT), Dialect(PROFILES["dashscope"])
    lossy = replace(all_of_it, files=False)
    assert lossy.unmet(loses) < replace(all_of_it, audio=False, images=False).unmet(refuses)
