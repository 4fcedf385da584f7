import json

from qwen_mitm.inspection.comparison import MOST_LINES, differences
from qwen_mitm.inspection.retranslation import Setting, retranslated
from tests.inspection.turns import UPSTREAM, a_whole_turn, body, send

TODAY = retranslated(body(), b"".join(UPSTREAM), Setting(provider="coding-plan"))


def test_a_turn_of_the_same_translation_is_the_same() -> None:
    turn, answer = a_whole_turn()
    assert differences(send(turn, "home").body, answer, TODAY) == [
        "request: the same as then",
        "answer: the same as then",
    ]


def test_what_is_different_is_said_line_by_line() -> None:
    turn, answer = a_whole_turn()
    edited = send(turn, "home").body.replace(b"Where is it?", b"Who is it?")
    lines = differences(edited, answer.replace(b"is Paris.", b"is Rome."), TODAY)
    assert lines[0] == "request: different"
    assert any(line.startswith("-") and "Who is it?" in line for line in lines)
    assert any(line.startswith("+") and "Where is it?" in line for line in lines)
    assert "answer: different" in lines
    assert any(line.startswith("+") and "is Paris." in line for line in lines)
    assert len(lines) < 2 * MOST_LINES + 3


def test_an_answer_that_was_not_streamed_is_compared_whole() -> None:
    turn, _ = a_whole_turn()
    response = json.dumps(turn.assembler.response()).encode()
    assert differences(send(turn, "home").body, response, TODAY)[1] == "answer: the same as then"
