"""Run by test_watch.py alone: tests that look at nothing, and make what is wrong."""

from dataclasses import replace

from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.wire.chat import AnswerReader
from tests.translate.answers import DONE, call, plain_context, text
from tests.translate.sending import sent, user


def test_a_good_stream_and_a_good_request() -> None:
    assembler = Assembler(plain_context())
    assembler.feed(AnswerReader().feed(text("yes", "stop") + DONE))
    assert sent({"input": [user("hi")]})


def test_a_bad_stream() -> None:
    assembler = Assembler(replace(plain_context(), new_id=lambda prefix: f"{prefix}_1"))
    assembler.feed(AnswerReader().feed(text("no") + call(index=0, id="a", name="f") + text("no")))
    assert not assembler.finished


def test_a_bad_request() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "array"}}
    assert sent({"input": [user("hi")], "tools": [tool]})
