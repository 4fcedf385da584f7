"""Loaded into a proxy to show that the witness sees it: numbers the events of a response from 1."""

from qwen_mitm.translate.events import EventWriter

begin = EventWriter.__init__


def wrong(self: EventWriter) -> None:
    begin(self)
    self._sequence_number = 1


EventWriter.__init__ = wrong  # type: ignore[method-assign]
