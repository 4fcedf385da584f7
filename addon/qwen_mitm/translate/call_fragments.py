"""Which tool call a fragment of the upstream's answer belongs to (responses-to-chat §9)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from copy import copy
from functools import cached_property
from typing import Final

from qwen_mitm.translate.call_items import CallItem
from qwen_mitm.translate.cumulative import CumulativeDeltas
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.chat import ToolCallDelta

_OUTSIDE_STRINGS: Final = re.compile(r'["{}\[\]]')
_BEGINS_JSON: Final = ("{", "[", '"')
_IN_A_STRING: Final = re.compile(r'["\\]')
_ENDS_A_STRING: Final = re.compile(r'\s*[{[]\s*"\s*(?:[:,}\]]|$)')


class JsonProgress:
    """How far a JSON object or array has come; looks at brackets and strings only.

    A text that begins otherwise, as of models that take no notice of the schema, is neither whole
    nor cut short.
    """

    def __init__(self) -> None:
        self._is_json: bool | None = None
        self._depth = 0
        self._opened = False
        self._in_string = False
        self._escaped = False

    @property
    def is_whole(self) -> bool:
        return self._opened and self._depth <= 0 and not self._in_string

    @property
    def is_cut_short(self) -> bool:
        return self._depth > 0 or self._in_string

    def feed(self, text: str) -> None:
        if self._is_json is None and (begun := text.lstrip()):
            self._is_json = begun[0] in _BEGINS_JSON
        if not self._is_json:
            return
        position = 0
        if self._escaped and text:
            self._escaped = False
            position = 1
        while True:
            pattern = _IN_A_STRING if self._in_string else _OUTSIDE_STRINGS
            match = pattern.search(text, position)
            if match is None:
                return
            position = match.end()
            position += self._step(match.group())
            if position > len(text):
                self._escaped = True
                return

    def _step(self, mark: str) -> int:
        """Takes one mark; the number of characters after it that mean nothing."""
        match mark:
            case '"':
                self._in_string = not self._in_string
            case "\\":
                return 1
            case "{" | "[":
                self._opened = True
                self._depth += 1
            case _:
                self._depth -= 1
        return 0


class Call:
    """One call of the model, as far as its fragments have told."""

    def __init__(self, offered: Collection[str] = ()) -> None:
        self.upstream_id: str | None = None
        self.name: str | None = None
        """None also while only the beginning of the name of an offered tool is there."""
        self.spelled = ""
        """The name so far."""
        self.item: CallItem | None = None
        """Its output item, once there is enough to show."""
        self._offered = offered
        self._arguments: list[str] = []
        self._scanned = 0
        self._progress = JsonProgress()
        self._deltas = CumulativeDeltas(certain=_is_no_chance)
        self._replayed: int | None = None
        """How much of the finished call has come once more."""

    @property
    def arguments(self) -> str:
        if len(self._arguments) > 1:
            self._scan()
            self._arguments = ["".join(self._arguments)]
            self._scanned = 1
        return self._arguments[0] if self._arguments else ""

    @property
    def is_whole(self) -> bool:
        """The arguments are a complete JSON object or array."""
        if not (held := self._deltas.held):
            return self._scan().is_whole
        progress = copy(self._scan())
        progress.feed(held)
        return progress.is_whole

    @property
    def is_cut_short(self) -> bool:
        """The arguments begin a JSON text and break off inside it."""
        return self._scan().is_cut_short

    @property
    def is_nameless(self) -> bool:
        """Something was said of it, and nobody can tell which tool it is for."""
        return self.name is None and (self.upstream_id is not None or bool(self.arguments.strip()))

    def take(self, fragment: ToolCallDelta) -> str:
        """Learns what the fragment tells; the arguments that it adds."""
        # An empty or repeated name never changes the one that is known.
        self.upstream_id = self.upstream_id or fragment.id
        if self.name is None and fragment.name is not None:
            self._spell(fragment.name)
        if fragment.arguments:
            self.settle_name()
        if not fragment.arguments or self._replayed is not None:
            return ""
        added = fragment.arguments
        if not self._deltas.settled:
            added = self._deltas.new_text(added)
        if added:
            self._arguments.append(added)
        return added

    @property
    def only_grows(self) -> bool:
        """Arguments are all that is to come, and each fragment adds its own."""
        settled = self.name is not None and self._deltas.settled
        return settled and self.item is not None and self._replayed is None

    def grow(self, arguments: Iterable[str]) -> None:
        """Takes the arguments of fragments with nothing else, while it ``only_grows``."""
        self._arguments.extend(arguments)

    def rest(self) -> str:
        """The arguments that were held back, now that no fragment follows."""
        self.settle_name()
        held = self._deltas.rest()
        if held:
            self._arguments.append(held)
        return held

    def settle_name(self) -> None:
        """The name is what is there of it: arguments or another call have come."""
        self.name = self.name or self.spelled or None

    def name_with(self, piece: str) -> str | None:
        """The offered name, or the beginning of one, that the name is with this piece.

        Some hosts cut names in two, others write the name once more.
        """
        for name in (self.spelled + piece, piece):
            if name.startswith(self.spelled) and any(it.startswith(name) for it in self._offered):
                return name
        return None

    def _spell(self, piece: str) -> None:
        name = self.name_with(piece)
        self.spelled = name or self.spelled or piece
        if name is None or name in self._offered:
            self.settle_name()

    def replay(self, arguments: str) -> None:
        """Leaves out these arguments and all that follow: the finished call came once more."""
        self._replayed = (self._replayed or 0) + len(arguments)

    @property
    def is_replayed(self) -> bool:
        """The finished call came once more, or another of the same name has begun."""
        return self._replayed is not None

    def goes_on_with_replay(self, arguments: str) -> bool:
        """Takes the next piece of a replay; False when it is none, but another call's."""
        replayed = self._replayed or 0
        # From the beginning: once more, or the host's running total of the replay.
        anew = self._replay_is_over or len(arguments) > replayed
        for at in (replayed, 0) if anew else (replayed,):
            if self._told.startswith(arguments, at):
                self._replayed = at + len(arguments)
                return True
        return False

    def another(self) -> Call:
        """The call that the supposed replay of this one was the beginning of."""
        call = Call(self._offered)
        call.name, call.spelled = self.name, self.spelled
        if not self._replay_is_over and (begun := self._told[: self._replayed]):
            call._arguments.append(begun)
        return call

    @property
    def is_half_replayed(self) -> bool:
        return bool(self._replayed) and not self._replay_is_over

    @property
    def _replay_is_over(self) -> bool:
        return self._replayed == len(self._told)

    @property
    def _told(self) -> str:
        """The arguments with those that are held back."""
        return self.arguments + self._deltas.held

    def repeats(self, arguments: str) -> bool:
        """Whether these are the call's own arguments again, or the next piece of them."""
        return any(self._told.startswith(arguments, at) for at in {self._replayed or 0, 0})

    def _scan(self) -> JsonProgress:
        # Every fragment is looked at once, and only if somebody asks.
        for text in self._arguments[self._scanned :]:
            self._progress.feed(text)
        self._scanned = len(self._arguments)
        return self._progress


class CallFragments:
    """The calls of one answer, in the order in which they began."""

    def __init__(self, tools: ToolTable | None = None) -> None:
        self._tools = tools or ToolTable()
        self._calls: list[Call] = []
        self._by_index: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    @cached_property
    def _offered(self) -> frozenset[str]:
        return frozenset(made.name for made in self._tools.definitions)

    def call_for(self, fragment: ToolCallDelta) -> Call:
        """The call that the fragment continues, or a new one."""
        call = self._known(fragment)
        if call is not None and _has_no_key(fragment) and fragment.name in (None, call.name):
            if fragment.name is not None and call.is_whole and not call.is_replayed:
                call.replay("")
            if call.is_replayed and fragment.arguments:
                call = self._replayed_or_another(call, fragment.arguments)
            self._last = call
            return call
        if call is not None and fragment.id is None and fragment.name is None:
            self._last = call
            return call
        if call is None or not _continues(call, fragment):
            if self._calls:
                self._last.settle_name()
            call = Call(self._offered)
            self._calls.append(call)
        elif call.is_whole and fragment.arguments:
            call.replay(fragment.arguments)
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        if fragment.id is not None:
            self._by_id[fragment.id] = call
        self._last = call
        return call

    def growing(self, fragment: ToolCallDelta) -> Call | None:
        """The call to which a fragment only adds arguments, whichever they are; if there is one."""
        if fragment.index is None or fragment.id is not None or fragment.name is not None:
            return None
        call = self._by_index.get(fragment.index)
        if call is None or not call.only_grows:
            return None
        self._last = call
        return call

    def _replayed_or_another(self, call: Call, arguments: str) -> Call:
        # Without a key only the arguments tell a call that comes again from another one.
        if call.goes_on_with_replay(arguments) or not (call.is_half_replayed or arguments.strip()):
            return call
        self._calls.append(call.another())
        return self._calls[-1]

    def _known(self, fragment: ToolCallDelta) -> Call | None:
        same_id = self._by_id.get(fragment.id) if fragment.id is not None else None
        if fragment.index is None:
            return same_id or self._last_one(fragment)
        call = self._by_index.get(fragment.index)
        if call is None:
            return same_id if same_id is not None and _moved(same_id, fragment) else None
        if fragment.id is None or call.upstream_id in (None, fragment.id):
            return call
        return same_id

    def _last_one(self, fragment: ToolCallDelta) -> Call | None:
        if not self._calls:
            return None
        last = self._last
        if fragment.id is None or (fragment.name is None and last.upstream_id is None):
            return last
        return None


def _is_no_chance(so_far: str, delta: str) -> bool:
    """Whether a delta that begins with the arguments so far is a running total.

    ``{"a":{"a":1}}`` may be cut so, and ``{"{":1}`` too.
    """
    if not so_far.lstrip().startswith(_BEGINS_JSON) or so_far.rstrip().endswith((":", ",", "[")):
        return False
    return _ENDS_A_STRING.match(delta) is None


def _has_no_key(fragment: ToolCallDelta) -> bool:
    return fragment.index is None and fragment.id is None


def _moved(call: Call, fragment: ToolCallDelta) -> bool:
    """Whether a fragment with the id of this call but a new index tells of the same call.

    With a name it is another call to which the host gave the same id, unless it only repeats.
    """
    if fragment.name is None:
        return True
    return call.is_whole and bool(fragment.arguments) and _continues(call, fragment)


def _continues(call: Call, fragment: ToolCallDelta) -> bool:
    """Whether the fragment goes on with this call; else it starts another under the same key."""
    if fragment.name is None or not call.spelled:
        return True
    if call.name is None and call.name_with(fragment.name) is not None:
        return True
    if not call.is_whole:
        keyed = fragment.index is not None or fragment.id is not None
        return keyed or fragment.name == call.spelled
    if fragment.name != call.name:
        return False
    return not fragment.arguments or call.repeats(fragment.arguments)
