"""How many finished flows mitmweb and mitmproxy's console keep: they keep every one for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from mitmproxy import flow

from qwen_mitm.inspection.dashboard import MARKS


class FlowList(Protocol):
    """mitmproxy's ``View``."""

    def get_by_id(self, flow_id: str) -> flow.Flow | None: ...

    def remove(self, flows: Sequence[flow.Flow]) -> None: ...


class KeptFlows:
    """Those that are over, the oldest first. The list may lose flows without being asked."""

    def __init__(self) -> None:
        self._finished: deque[str] = deque()

    def finished(self, flow_id: str, shown: FlowList | None, most: int) -> None:
        """One more is over: drop the oldest from what is shown, but for those that a person marked.

        ``most`` of 0 keeps all, and so does a program that shows none.
        """
        if shown is None or not most:
            self._finished.clear()
            return
        self._finished.append(flow_id)
        while len(self._finished) > most:
            oldest = shown.get_by_id(self._finished.popleft())
            if oldest is not None and (not oldest.marked or oldest.marked in MARKS):
                shown.remove([oldest])
