from __future__ import annotations

import pytest

from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.parts import OUTPUT_TEXT, TextPart
from qwen_mitm.wire.chat import Logprob


@pytest.mark.parametrize(
    ("logprob", "octets"),
    [
        (Logprob(token="é", logprob=-1, bytes=(1, 2)), [1, 2]),
        (Logprob(token="é", logprob=-1), [195, 169]),
        (Logprob(token="", logprob=-1), []),
    ],
)
def test_bytes_that_a_host_leaves_out_are_those_of_the_token(
    logprob: Logprob, octets: list[int]
) -> None:
    part = TextPart(EventWriter(), OUTPUT_TEXT, "msg_1", 0, 0)
    part.append_scored("é", [logprob])
    assert part.as_json()["logprobs"] == [
        {"token": logprob.token, "logprob": -1.0, "bytes": octets, "top_logprobs": []}
    ]


def test_text_with_and_without_logprobs_is_one_text() -> None:
    part = TextPart(EventWriter(), OUTPUT_TEXT, "msg_1", 0, 0)
    part.append("a")
    part.append_scored("b", [Logprob(token="b", logprob=-1)])
    part.append("c")
    assert part.text == "abc"


@pytest.mark.parametrize("value", [float("-inf"), float("nan")])
def test_logprob_that_json_cannot_say_is_a_very_low_one(value: float) -> None:
    part = TextPart(EventWriter(), OUTPUT_TEXT, "msg_1", 0, 0)
    part.append_scored("b", [Logprob(token="b", logprob=value)])
    assert part.as_json()["logprobs"] == [
        {"token": "b", "logprob": -9999.0, "bytes": [98], "top_logprobs": []}
    ]
