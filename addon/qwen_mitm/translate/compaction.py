"""Compaction: the model writes a summary, and the client gets it sealed (responses-to-chat §12).

The tools stay in the request: hosts that cache prompts have them before the conversation, and a
conversation that is to be compacted is the longest of all. The model may not call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from qwen_mitm.translate.call_items import CallItem
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft, ResponseMaker
from qwen_mitm.translate.events import EventWriter
from qwen_mitm.translate.items import ItemStatus, Message, OutputItem
from qwen_mitm.translate.parts import OUTPUT_TEXT
from qwen_mitm.wire.chat import EndOfAnswer, Failure
from qwen_mitm.wire.chat_request import ChatRequest, ChatText, UserMessage
from qwen_mitm.wire.response_object import JsonObject

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
        hosted_tools=(),
        parallel_tool_calls=None,
        logprobs=False,
        top_logprobs=None,
        response_format=None,
        verbosity=None,
    )


class CompactionItem(OutputItem):
    """The summary, sealed. The type has no status: it is complete or not there."""

    def __init__(self, events: EventWriter, id: str) -> None:  # noqa: A002 - the name of the field
        super().__init__(events, id, 0)
        self._sealed = ""
        self._announce()

    @property
    def characters(self) -> int:
        return 0

    def fill(self, sealed: str) -> None:
        self._sealed = sealed
        self.close("completed")

    def as_json(self, status: ItemStatus) -> JsonObject:
        return {"type": "compaction", "id": self.id, "encrypted_content": self._sealed}

    def _finish(self, status: ItemStatus) -> None:
        pass


class Compactor[P]:
    """A response whose output is one ``compaction`` item, made of an answer that nobody sees.

    Thoughts are left out. A summary that is cut, filtered or empty is a failure.
    """

    def __init__(
        self,
        context: AnswerContext,
        draft: ResponseDraft,
        make: Callable[[AnswerContext, ResponseDraft], ResponseMaker[P]],
        seal: Callable[[str], str],
    ) -> None:
        """``make`` makes an answer of what the upstream says."""
        context = replace(context, seal=None)
        self._draft = draft
        self._seen = ResponseDraft(context)
        self._answer = make(context, self._seen)
        self._seal = seal
        self._id = context.new_id("cmp")
        self._item: CompactionItem | None = None

    @property
    def finished(self) -> bool:
        return self._draft.finished

    @property
    def error(self) -> Failure | None:
        return self._draft.error

    @property
    def usage_is_estimated(self) -> bool:
        return self._draft.usage_is_estimated

    @property
    def ending(self) -> bool:
        return self._answer.ending

    def start(self) -> bytes:
        """``response.created`` and ``response.in_progress``; b"" when already started."""
        self._draft.start()
        return self._draft.take()

    def feed(self, parts: Iterable[P | Failure | EndOfAnswer]) -> bytes:
        """The events of these parts; starts by itself, and b"" after the end."""
        self._answer.start()
        self._draft.start()
        # Part by part: what the client sees must not depend on how the upstream's bytes are cut.
        for part in parts:
            self._follow(self._answer.feed((part,)))
        return self._draft.take()

    def end(self, reason: Failure | None = None) -> bytes:
        """The upstream's stream is over; ``reason`` says why, if it broke."""
        self._follow(self._answer.end(reason))
        return self._draft.take()

    def fail(self, failure: Failure) -> bytes:
        """``response.failed``; b"" when already finished."""
        self._follow(self._answer.fail(failure))
        return self._draft.take()

    def response(self) -> JsonObject:
        """The Response object so far."""
        return self._draft.response()

    def _follow(self, caused: bytes) -> None:
        """What the client gets for what would have been these events of an answer."""
        if self.finished:
            return
        self._draft.start()
        if self._answer.finished:
            self._conclude()
        elif caused:
            # OpenAI's sign of life; Codex hears no comments and gives up after 300 s of silence.
            self._draft.events.write(
                "response.compaction.compacting",
                {"output_index": 0, "item_id": self._announced().id},
            )

    def _announced(self) -> CompactionItem:
        if self._item is None:
            self._item = CompactionItem(self._draft.events, self._id)
            self._draft.items.append(self._item)
        return self._item

    def _conclude(self) -> None:
        messages = [item for item in self._seen.items if isinstance(item, Message)]
        summary = "\n".join(filter(None, (message.said(OUTPUT_TEXT) for message in messages)))
        fault = self._fault(summary)
        self._draft.service_tier = self._seen.service_tier
        self._draft.usage_is_estimated = self._seen.usage_is_estimated
        usage = self._seen.usage
        if fault is None:
            self._announced().fill(self._seal(summary))
            self._draft.complete(usage, 0)
        else:
            # What was begun could not be told from what is complete.
            self._draft.items.clear()
            self._draft.fail(fault, usage, 0)

    def _fault(self, summary: str) -> Failure | None:
        seen = self._seen
        if seen.error is not None:
            return seen.error
        if seen.incomplete_reason is not None:
            return _FILTERED if seen.incomplete_reason == "content_filter" else _CUT
        if any(isinstance(item, CallItem) for item in seen.items):
            return _CALLED
        return None if summary.strip() else _EMPTY


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
