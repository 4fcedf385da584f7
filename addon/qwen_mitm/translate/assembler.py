"""The upstream's answer becomes the events of a response (responses-to-chat §8-§10).

``Assembler`` is the only producer of events, and the object of a non-streamed answer is what those
events add up to. Whatever the upstream does, a response ends with exactly one of
``response.completed``, ``response.incomplete`` and ``response.failed``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from qwen_mitm.translate.call_fragments import Call, CallFragments
from qwen_mitm.translate.call_items import CALL_ITEMS, CallStart
from qwen_mitm.translate.cumulative import CumulativeDeltas, is_replay
from qwen_mitm.translate.draft import AnswerContext, ResponseDraft
from qwen_mitm.translate.failure import with_words_before
from qwen_mitm.translate.items import Message, OutputItem, Reasoning
from qwen_mitm.translate.outcome import counted_usage
from qwen_mitm.translate.parts import OUTPUT_TEXT, REFUSAL, PartKind, TextPart
from qwen_mitm.translate.tools import ToolRoute
from qwen_mitm.wire.alike import Run
from qwen_mitm.wire.chat import (
    ENDED_WITH_AN_ERROR,
    ERROR_FINISH,
    AnswerPart,
    ChatChunk,
    Choice,
    EndOfAnswer,
    Failure,
    Logprob,
    ToolCallDelta,
    Usage,
)
from qwen_mitm.wire.response_object import JsonObject

__all__ = ["AnswerContext", "Assembler"]

_TOO_LONG: Final = frozenset({"length", "max_tokens"})
_FILTERED: Final = frozenset({"content_filter"})
_BROKEN: Final = frozenset({"error", "insufficient_system_resource"})
_CALLS: Final = frozenset({"tool_calls", "function_call"})
_NOT_THE_MODELS_WISH: Final = _TOO_LONG | _FILTERED | _BROKEN

_WRAPPED: Final = re.compile(r'\s*\{\s*"input"\s*:')

_CUT_OFF: Final = Failure("The upstream ended the stream before the answer was finished.")
_NO_ANSWER: Final = Failure("The upstream ended the stream without an answer.")
_ENDED_WITH_AN_ERROR: Final = Failure("The upstream ended its answer with an error.")
_NAMELESS: Final = Failure("The model called a tool, but the upstream did not say which one.")


class Assembler:
    """One response. Every method returns the frames of the events that it caused, in one piece."""

    def __init__(self, context: AnswerContext, draft: ResponseDraft | None = None) -> None:
        """``draft``: a response that was begun before this answer came."""
        self._context = context
        self._draft = draft or ResponseDraft(context)
        self._events = self._draft.events
        self._items = self._draft.items
        self._message: Message | None = None
        self._thought: Reasoning | None = None
        """At most one of the two is open; calls stay open until the end."""
        self._calls = CallFragments(context.tools)
        self._scores: list[Logprob] = []
        """Those of tokens that are a part of a character: their text comes with a later one."""
        self._text_deltas = CumulativeDeltas()
        self._thought_deltas = CumulativeDeltas()

        self._answered = False
        """The upstream sent a choice."""
        self._finish_reason: str | None = None
        self._counted: Usage | None = None

    @property
    def finished(self) -> bool:
        """The terminal event was produced; nothing follows."""
        return self._draft.finished

    @property
    def error(self) -> Failure | None:
        """Why the response failed."""
        return self._draft.error

    @property
    def usage_is_estimated(self) -> bool:
        return self._draft.usage_is_estimated

    @property
    def ending(self) -> bool:
        """The upstream said why it stops; at most usage and the end marker are to come."""
        return self._finish_reason is not None

    def start(self) -> bytes:
        """``response.created`` and ``response.in_progress``; b"" when already started."""
        self._draft.start()
        return self._draft.take()

    def feed(self, parts: Iterable[AnswerPart | Run]) -> bytes:
        """The events of these parts; starts by itself, and b"" after the end."""
        self._draft.start()
        for part in parts:
            if self.finished:
                break
            match part:
                case ChatChunk():
                    self._take(part)
                case Run():
                    self._take_run(part)
                case EndOfAnswer():
                    self._finish()
                case Failure():
                    self._fail_for(part)
        return self._draft.take()

    def go_on(self, run: Run) -> bytes:
        """What ``feed`` does with this alone, once it has begun."""
        if self._draft.finished:
            return b""
        self._take_run(run)
        return self._events.take()

    def end(self, reason: Failure | None = None) -> bytes:
        """The upstream's stream is over; ``reason`` says why, if it broke.

        An answer whose ``finish_reason`` has come is complete however the stream ends.
        """
        if self.finished:
            return b""
        self._draft.start()
        if self._finish_reason is not None:
            self._finish()
        else:
            self._fail(reason or (_CUT_OFF if self._answered else _NO_ANSWER))
        return self._draft.take()

    def fail(self, failure: Failure) -> bytes:
        """``response.failed``; b"" when already finished."""
        if self.finished:
            return b""
        self._draft.start()
        self._fail(failure)
        return self._draft.take()

    def response(self) -> JsonObject:
        """The Response object so far: when finished, the answer to a request without a stream."""
        return self._draft.response()

    def _take(self, chunk: ChatChunk) -> None:
        choice = chunk.choice
        finished_before = self._finish_reason is not None
        if choice is not None:
            self._answered = True
            self._take_choice(choice)
        if chunk.service_tier is not None:
            self._draft.service_tier = chunk.service_tier
        if chunk.usage is not None:
            # Running totals: the last one counts (§7.2).
            self._counted = chunk.usage
            # Some hosts send no [DONE] and leave the connection open after this chunk.
            if finished_before and not self.finished and _says_nothing(choice):
                self._finish()

    def _take_run(self, run: Run) -> None:
        """Does what ``_take`` does, once for each of the texts."""
        self._answered = True
        chunk = run.chunk
        if chunk.service_tier is not None:
            self._draft.service_tier = chunk.service_tier
        match run.kind:
            case "text" if self._message and self._text_deltas.settled and not self._scores:
                self._part(OUTPUT_TEXT).extend(run.texts)
            case "text":
                for text in run.texts:
                    self._say(text, chunk.choices[0])
            case "thought" if self._thought and self._thought_deltas.settled:
                self._thought.extend(run.texts)
            case "thought":
                for text in run.texts:
                    self._think(text)
            case "arguments":
                self._go_on_calling(chunk.choices[0].delta.tool_calls[0], run.texts)

    def _take_choice(self, choice: Choice) -> None:
        delta = choice.delta
        reason = choice.finish_reason
        if reason == ERROR_FINISH:
            words = delta.content
            self._fail_for(Failure(words, code=reason) if words else ENDED_WITH_AN_ERROR)
            return
        if thought := delta.reasoning:
            self._think(thought)
        if choice.logprobs is not None and (delta.content or self._message is not None):
            self._scores += choice.logprobs.content or ()
        if delta.content:
            self._say(delta.content, choice)
        if delta.refusal:
            self._release()
            self._part(REFUSAL).append(delta.refusal)
        for fragment in delta.tool_calls:
            self._call(fragment)
        if reason is None:
            return
        if self._finish_reason not in _NOT_THE_MODELS_WISH:
            self._finish_reason = reason
        if reason in _BROKEN:
            self._fail(_ENDED_WITH_AN_ERROR)

    def _think(self, thought: str) -> None:
        if not self._thought_deltas.settled:
            thought = self._thought_deltas.new_text(thought)
        if not thought:
            return
        if self._thought is None:
            self._close_text()
            context = self._context
            self._thought = Reasoning(
                self._events,
                context.new_id("rs"),
                len(self._items),
                context.reasoning,
                context.seal,
            )
            self._items.append(self._thought)
        self._thought.append(thought)

    def _say(self, text: str, choice: Choice) -> None:
        if self._scores:
            # A thought that is closed for this text clears what is left of the scores before it.
            scores, self._scores = self._scores, []
            self._release()
            self._part(OUTPUT_TEXT).append_scored(text, scores)
            return
        if choice.finish_reason and self._finish_reason is None and self._repeats_all(text):
            return
        if not self._text_deltas.settled:
            text = self._text_deltas.new_text(text)
        if text:
            self._part(OUTPUT_TEXT).append(text)

    def _repeats_all(self, text: str) -> bool:
        """Some hosts put the whole text into the last chunk once more (qwen.md §2.10, quirk 1)."""
        if self._message is None or not is_replay(text):
            return False
        return self._message.characters == len(text) and self._message.text == text

    def _part(self, kind: PartKind) -> TextPart:
        if self._message is None:
            self._close_text()
            self._message = Message(self._events, self._context.new_id("msg"), len(self._items))
            self._items.append(self._message)
        return self._message.part(kind)

    def _call(self, fragment: ToolCallDelta) -> None:
        call = self._calls.call_for(fragment)
        arguments = call.take(fragment)
        if call.item is None:
            if self._permits(call):
                self._close_text()
                self._open_calls()
        elif arguments:
            # Text between the fragments of calls is an item of its own (§8).
            self._close_text()
            call.item.append(arguments)

    def _go_on_calling(self, fragment: ToolCallDelta, texts: list[str]) -> None:
        """Fragments that differ in these arguments alone."""
        for place, text in enumerate(texts):
            call = self._calls.growing(fragment)
            if call is None or call.item is None:
                self._call(fragment.model_copy(update={"arguments": text}))
                continue
            call.grow(texts[place:])
            self._close_text()
            call.item.extend(texts[place:])
            return

    def _permits(self, call: Call) -> bool:
        # allowed_tools is a hard limit: a call outside of it is suppressed (§5).
        return call.name is not None and self._context.tools.permits(call.name)

    def _open_calls(self, *, ended: bool = False) -> None:
        """Makes the items of the calls of which enough is there to show."""
        waiting = False
        for call in self._calls:
            if call.name is None or call.item is not None or not self._permits(call):
                continue
            route = self._context.tools.route(call.name)
            if CALL_ITEMS[route.kind].opens_whole:
                # They keep their order: a patch may need the one before it.
                waiting = waiting or not (ended or call.is_whole)
                if waiting:
                    continue
            self._open_call(call, route)

    def _open_call(self, call: Call, route: ToolRoute) -> None:
        self._close_text()
        kind = CALL_ITEMS[route.kind]
        new_id = self._context.new_id
        call_id = self._draft.call_id(call.upstream_id)
        id_ = new_id(kind.id_prefix)
        place = len(self._items)
        call.item = kind(CallStart(self._events, id_, place, call_id, route, call.arguments))
        self._items.append(call.item)

    def _close_text(self) -> None:
        if self._message is None and self._thought is None:
            return
        self._release()
        for item in (self._thought, self._message):
            if item is not None:
                item.close("completed")
        self._thought = self._message = None
        self._scores.clear()

    def _release(self) -> None:
        """Writes what was held back as a possible running total: no text follows it."""
        if self._thought is not None and (rest := self._thought_deltas.rest()):
            self._thought.append(rest)
        if self._message is not None and (rest := self._text_deltas.rest()):
            self._message.part(OUTPUT_TEXT).append(rest)

    def _release_calls(self) -> None:
        for call in self._calls:
            if (rest := call.rest()) and call.item is not None:
                call.item.append(rest)
        self._open_calls()

    def _finish(self) -> None:
        self._release()
        self._release_calls()
        reason = self._why_incomplete()
        if not self._answered:
            self._fail(_NO_ANSWER)
        elif reason is not None:
            self._close_items(cut=True)
            self._draft.leave_incomplete(reason, *self._spent())
        elif any(call.is_nameless for call in self._calls):
            # Nobody could run it, and without it "completed" would be untrue. The items stay open:
            # Codex runs every call that is done, and runs it again when it repeats the request.
            self._fail(_NAMELESS)
        else:
            self._open_calls(ended=True)
            self._close_items(cut=False)
            self._draft.complete(*self._spent())

    def _why_incomplete(self) -> str | None:
        reason = self._finish_reason
        if reason in _FILTERED:
            return "content_filter"
        # Some hosts say "stop" when the limit cut a call (qwen.md §2.10, quirk 8).
        cut = any(
            call.is_cut_short and (reason not in _CALLS or self._would_run_in_part(call))
            for call in self._calls
        )
        return "max_output_tokens" if cut or reason in _TOO_LONG else None

    def _would_run_in_part(self, call: Call) -> bool:
        """Whether the client could not see that the call is cut: a freeform input is any text."""
        is_custom = self._context.tools.route(call.name or "").kind == "custom"
        return is_custom and _WRAPPED.match(call.arguments) is not None

    def _close_items(self, *, cut: bool) -> None:
        """The last open item is the one that was cut (§10), and calls that break off anyway."""
        open_items = [item for item in self._items if item.is_open]
        unfinished: set[OutputItem] = set()
        if cut:
            broken = [call.item for call in self._calls if call.is_cut_short]
            unfinished = {item for item in broken if item is not None}
            # A built-in tool's call that was cut has no item.
            if None not in broken:
                unfinished |= set(open_items[-1:])
        for item in open_items:
            item.close("incomplete" if item in unfinished else "completed")

    def _fail_for(self, failure: Failure) -> None:
        self._release()
        said = "" if self._message is None else self._message.text
        self._fail(with_words_before(failure, said))

    def _fail(self, failure: Failure) -> None:
        self._release()
        self._release_calls()
        self._draft.fail(failure, *self._spent())

    def _spent(self) -> tuple[JsonObject | None, int]:
        """The usage that the upstream counted, and what to take the input for if it did not."""
        counted = None if self._counted is None else counted_usage(self._counted)
        return counted, self._context.estimated_input_tokens


def _says_nothing(choice: Choice | None) -> bool:
    if choice is None:
        return True
    delta = choice.delta
    said = delta.content or delta.reasoning or delta.refusal or delta.tool_calls
    return not said and choice.finish_reason is None
