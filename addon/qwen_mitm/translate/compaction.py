"""Compaction: the model writes a summary, and the client gets it sealed (responses-to-chat §12).

The tools stay in the request: hosts that cache prompts have them before the conversation, and a
conversation that is to be compacted is the longest of all. The model may not call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from qwen_mitm.translate.assembler import AnswerContext, Assembler
from qwen_mitm.translate.call_items import CallItem
from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.items import Message
from qwen_mitm.translate.outcome import error_object
from qwen_mitm.translate.parts import OUTPUT_TEXT
from qwen_mitm.wire.chat import AnswerPart, Failure
from qwen_mitm.wire.chat_request import ChatRequest, ChatText, UserMessage
from qwen_mitm.wire.response_object import JsonObject
from qwen_mitm.wire.sse import DONE

INSTRUCTION: Final = """\
This conversation is about to be replaced by a summary, and whoever goes on with the work will \
know nothing but that summary and the user's own messages. Write the summary now. Do not answer or \
continue the conversation, and call no tool.

Write it for a coding agent that has to take over in the middle of the work without asking again. \
As far as the conversation tells, say:

1. Goal: what the user wants, with every requirement, constraint and correction that still holds.
2. Decisions: what was decided and why, and what was tried and did not work.
3. State: which files were read, made or changed and what is in them now; which commands were run \
and what came out; which tests pass or fail, with the exact messages of errors that are not solved.
4. Open: the step that was under way, the steps that remain, in their order, and open questions.
5. Names: exact paths, functions, identifiers, branches, versions, addresses, commands and values \
that are still needed.

Where the conversation itself begins with a summary, keep everything in it that still holds. Be \
complete in facts and brief in words. Add nothing that was not said, and say where something is \
uncertain. Use the language of the conversation. Your answer is the summary and nothing else."""

# A request that is repeated ends the same way; at this code Codex shows the message and stops.
_CUT: Final = Failure(
    "The summary of the conversation reached the output limit before it was complete, so nothing "
    "was compacted.",
    type="invalid_request_error",
    code="invalid_prompt",
    status=400,
)
_FILTERED: Final = replace(
    _CUT,
    message="The upstream's content filter stopped the summary, so nothing was compacted.",
)
_EMPTY: Final = Failure("The model wrote no summary of the conversation.")
_CALLED: Final = Failure("The model called a tool instead of writing the summary.")


def summarising(chat: ChatRequest) -> ChatRequest:
    """The request that asks for a summary of this conversation, as plain text."""
    return replace(
        chat,
        messages=(*chat.messages, UserMessage((ChatText(INSTRUCTION),))),
        tool_choice="none" if chat.tools else None,
        parallel_tool_calls=None,
        logprobs=False,
        top_logprobs=None,
        response_format=None,
        verbosity=None,
    )


class Compactor:
    """A response whose output is one ``compaction`` item; in use like an :class:`Assembler`.

    Thoughts are left out. A summary that is cut, filtered or empty is a failure.
    """

    def __init__(self, context: AnswerContext, seal: Callable[[str], str]) -> None:
        self.finished = False
        """The terminal event was produced; nothing follows."""
        self.error: Failure | None = None
        """Why the response failed."""
        self._answer = Assembler(replace(context, seal=None))
        self._events = EventWriter()
        self._seal = seal
        self._item: JsonObject = {
            "type": "compaction",
            "id": context.new_id("cmp"),
            "encrypted_content": "",
        }
        self._started = False
        self._announced = False

    @property
    def ending(self) -> bool:
        return self._answer.ending

    @property
    def usage_is_estimated(self) -> bool:
        return self._answer.usage_is_estimated

    @property
    def in_plain_text(self) -> bool:
        return self._answer.in_plain_text

    def start(self) -> bytes:
        """``response.created`` and ``response.in_progress``; b"" when already started."""
        self._start()
        return self._events.take()

    def feed(self, parts: Iterable[AnswerPart]) -> bytes:
        """The events of these parts; starts by itself, and b"" after the end."""
        self._start()
        return self._follow(self._answer.feed(parts))

    def say(self, text: str) -> bytes:
        """The events of a chunk with this text and nothing else, while ``in_plain_text``."""
        return self._follow(self._answer.say(text))

    def end(self, reason: Failure | None = None) -> bytes:
        """The upstream's stream is over; ``reason`` says why, if it broke."""
        self._start()
        return self._follow(self._answer.end(reason))

    def fail(self, failure: Failure) -> bytes:
        """``response.failed``; b"" when already finished."""
        self._start()
        return self._follow(self._answer.fail(failure))

    def response(self) -> JsonObject:
        """The Response object so far."""
        response = self._answer.response()
        if self.error is not None:
            return {
                **response,
                "status": "failed",
                "error": error_object(self.error),
                "incomplete_details": None,
                "completed_at": None,
                # The type has no status: what was begun cannot be told from what is complete.
                "output": [],
            }
        return {**response, "output": [self._item] if self.finished else []}

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._answer.start()
            for name in ("response.created", "response.in_progress"):
                self._events.write(name, {"response": self.response()})

    def _follow(self, caused: bytes) -> bytes:
        """What the client gets for what would have been these events of an answer."""
        if self.finished:
            return b""
        if self._answer.finished:
            self._conclude()
            return self._events.take() + DONE
        if caused:
            self._announce()
            # OpenAI's sign of life; Codex hears no comments and gives up after 300 s of silence.
            self._write("response.compaction.compacting", {"item_id": self._item["id"]})
        return self._events.take()

    def _conclude(self) -> None:
        messages = [item for item in self._answer.items if isinstance(item, Message)]
        summary = "\n".join(filter(None, (message.said(OUTPUT_TEXT) for message in messages)))
        self.error = self._fault(summary)
        if self.error is None:
            self._announce()
            self._item = {**self._item, "encrypted_content": self._seal(summary)}
            self._write("response.output_item.done", {"item": self._item})
        self.finished = True
        response = self.response()
        self._events.write(f"response.{response['status']}", {"response": response})

    def _fault(self, summary: str) -> Failure | None:
        answer = self._answer
        if answer.error is not None:
            return answer.error
        if answer.incomplete_reason is not None:
            return _FILTERED if answer.incomplete_reason == "content_filter" else _CUT
        if any(isinstance(item, CallItem) for item in answer.items):
            return _CALLED
        return None if summary.strip() else _EMPTY

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._write("response.output_item.added", {"item": self._item})

    def _write(self, type: str, fields: JsonObject) -> None:  # noqa: A002 - the event's own name
        self._events.write(type, {"output_index": 0, **fields})


def compacted(response: JsonObject, kept: Sequence[JsonObject]) -> JsonObject:
    """The answer to ``/responses/compact``: the user's messages, then the compaction item."""
    output = response["output"]
    return {
        "id": response["id"],
        "object": "response.compaction",
        "created_at": response["created_at"],
        "output": [*kept, *(output if isinstance(output, list) else ())],
        "usage": response["usage"],
    }
