import json
from typing import Any

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.inspection.case import NoCase, case_files
from qwen_mitm.inspection.record import Record, Try, record_of, refused
from tests.event_checker import check_events
from tests.inspection.turns import KEY, UPSTREAM, a_whole_turn, body

VERSIONS = {"qwen_mitm": "0.1.0"}
PERSONAL: dict[str, Any] = {
    "user": "lovelace@example.test",
    "safety_identifier": "lovelace",
    "prompt_cache_key": "session-5",
    "metadata": {"machine": "lovelaces"},
}


def files(
    record: Record, upstream: bytes = b"", *, blank: bool = False, **fields: Any
) -> dict[str, bytes]:
    request = json.loads(body(**fields))
    return case_files(
        request,
        upstream,
        record,
        versions=VERSIONS,
        unseal=lambda token: "opened" if token == "ours" else None,
        blank=blank,
    )


def text(made: dict[str, bytes]) -> str:
    return b"".join(made.values()).decode()


def test_a_turn_is_a_transcript() -> None:
    turn, _ = a_whole_turn()
    made = files(record_of(turn), b"".join(UPSTREAM), **PERSONAL)
    assert sorted(made) == ["case.json", "expected.jsonl", "request.json", "upstream.sse"]
    check_events([json.loads(line) for line in made["expected.jsonl"].splitlines()])
    assert made["upstream.sse"] == b"".join(UPSTREAM)
    assert json.loads(made["case.json"]) == {
        "provider": "coding-plan",
        "form": "/chat/completions",
        "reasoning": "content",
        "seals": False,
        "compacts": False,
        "versions": VERSIONS,
    }
    for word in ("lovelace", "session-5", KEY, "plan.test", "work", "home"):
        assert word not in text(made)


def test_ids_by_which_a_vendor_finds_an_account_are_replaced() -> None:
    turn, _ = a_whole_turn()
    upstream = b"".join(UPSTREAM).replace(b'{"choices"', b'{"id": "chatcmpl-77-88", "choices"')
    made = files(record_of(turn), upstream)
    assert "chatcmpl-77-88" not in text(made)
    assert b'"id": "id-1"' in made["upstream.sse"]


def test_texts_can_be_blanked_and_the_case_is_still_one() -> None:
    turn, _ = a_whole_turn()
    made = files(record_of(turn), b"".join(UPSTREAM), blank=True, input="Where is Paris?")
    assert "Paris" not in text(made)
    assert "capital" not in text(made)
    check_events([json.loads(line) for line in made["expected.jsonl"].splitlines()])


def test_what_was_sealed_here_is_opened_and_the_rest_is_left_out() -> None:
    turn, _ = a_whole_turn()
    thoughts: list[Any] = [
        {"type": "reasoning", "summary": [], "encrypted_content": token}
        for token in ("ours", "another's")
    ]
    said = [*thoughts, {"role": "user", "content": "hi"}]
    made = files(record_of(turn), b"".join(UPSTREAM), input=said)
    assert b"sealed:opened" in made["request.json"]
    assert b"another's" not in made["request.json"]


def test_a_refusal_of_the_upstream_is_a_transcript() -> None:
    body_ = '{"error": {"message": "no", "code": "x"}, "request_id": "req-12345"}'
    record = Record(attempts=[Try(account="work", status=400, error_body=body_)])
    made = files(record)
    assert sorted(made) == ["case.json", "refusal.json", "request.json", "upstream.json"]
    assert json.loads(made["refusal.json"])["status"] == 400
    assert "req-12345" not in text(made)
    assert b'"xx"' in files(record, blank=True)["upstream.json"]


def test_a_refusal_of_ours_is_a_transcript() -> None:
    made = files(refused(InvalidRequest("Send text.", param="input")))
    assert json.loads(made["refusal.json"])["body"]["error"] == {
        "message": "Send text.",
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Record(attempts=[Try(status=200, provider="web-chat")]), "cannot be played back"),
        (Record(attempts=[Try(status=200)], upstream_cut=True), "no whole answer"),
        (Record(attempts=[Try(failure="lost")]), "no transcript shows"),
    ],
)
def test_what_cannot_be_played_back_is_no_case(record: Record, why: str) -> None:
    with pytest.raises(NoCase, match=why):
        files(record, b"data: [DONE]\n\n")


def test_a_request_that_was_cut_is_no_case() -> None:
    with pytest.raises(NoCase, match="no whole request"):
        case_files(None, b"", Record(), versions={}, unseal=lambda _: None, blank=False)
