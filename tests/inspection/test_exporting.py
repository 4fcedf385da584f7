import json
from pathlib import Path

import pytest

from qwen_mitm.errors import InvalidRequest
from qwen_mitm.inspection.case import NoCase
from qwen_mitm.inspection.exporting import export
from qwen_mitm.inspection.pages import Turn as Page
from qwen_mitm.inspection.record import record_of, refused
from qwen_mitm.seal import Seal
from tests.inspection.turns import UPSTREAM, a_whole_turn, body, page_of
from tests.stored_turns import Nothing
from tests.translate.test_transcripts import events_of_case

SEAL = Seal(bytes(32))


def exported(page: Page, folder: Path, request: bytes = b"", *, blank: bool = False) -> Path:
    export(page, request, folder, store=Nothing(), seal=SEAL, blank=blank)
    return folder


@pytest.mark.parametrize("blank", [False, True])
def test_what_is_written_is_what_the_tests_of_transcripts_expect(
    tmp_path: Path, blank: bool
) -> None:
    turn, _ = a_whole_turn()
    folder = exported(page_of(turn, body()), tmp_path / "case", blank=blank)
    lines = (folder / "expected.jsonl").read_text().splitlines()
    assert events_of_case(folder) == [json.loads(line) for line in lines]
    assert ("Paris" in (folder / "upstream.sse").read_text()) is not blank


def test_thoughts_that_were_sealed_here_are_opened(tmp_path: Path) -> None:
    turn, _ = a_whole_turn()
    sealed = SEAL.seal("thought", "I wonder.")
    items = [
        {"type": "reasoning", "summary": [], "encrypted_content": sealed},
        {"role": "user", "content": "hi"},
    ]
    folder = exported(page_of(turn, body(input=items)), tmp_path)
    assert "sealed:I wonder." in (folder / "request.json").read_text()


def test_a_refused_request_is_taken_from_the_flow(tmp_path: Path) -> None:
    page = Page(refused(InvalidRequest("no", param="background")), "", b"", b"")
    folder = exported(page, tmp_path, body(background=True))
    assert json.loads((folder / "request.json").read_text())["background"] is True
    assert (folder / "refusal.json").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    turn, _ = a_whole_turn()
    (tmp_path / "mine").write_text("")
    with pytest.raises(NoCase, match="is not empty"):
        exported(page_of(turn, body()), tmp_path)
    with pytest.raises(NoCase, match="cannot be written"):
        exported(page_of(turn, body()), tmp_path / "mine" / "case")


def test_a_conversation_that_is_not_stored_any_more_is_no_case(tmp_path: Path) -> None:
    turn, _ = a_whole_turn()
    page = Page(record_of(turn), "", body(previous_response_id="resp_5"), b"".join(UPSTREAM))
    with pytest.raises(NoCase, match="resp_5"):
        exported(page, tmp_path / "case")
    assert not (tmp_path / "case").exists()
