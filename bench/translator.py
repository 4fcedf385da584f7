"""What the translation of one text delta costs, without any proxy around it."""

import json
import time
from collections.abc import Callable
from itertools import count
from typing import Final

from bench.workloads import WORKLOADS, events
from qwen_mitm.translate.answering import ChatAnswering, Terms
from qwen_mitm.translate.assembler import Assembler
from qwen_mitm.translate.draft import AnswerContext
from qwen_mitm.translate.tools import ToolTable
from qwen_mitm.wire.response_object import ResponseEcho

REPEATS: Final = 5


def loads_and_dumps() -> float:
    """Microseconds for one event of the burst."""
    chunks = [event.removeprefix(b"data: ") for event in events(WORKLOADS["bench-burst"])[:-1]]

    def run() -> None:
        for chunk in chunks:
            json.dumps(json.loads(chunk))

    return _fastest(run, len(chunks))


def translated(at_once: int = 0) -> float:
    """The same for the addon's own code: reads of one event, or of so many bytes."""
    opening, *every = events(WORKLOADS["bench-burst"])
    stream = b"".join(every)
    reads = [stream[i : i + at_once] for i in range(0, len(stream), at_once)] if at_once else every

    def run() -> None:
        answering = ChatAnswering(Assembler(_context()), Terms(streams=True))
        if answering.offer(opening) is not True:
            raise ValueError("the first event was not accepted")
        answering.accepted()
        for read in reads:
            answering.feed(read)

    return _fastest(run, len(every))


def _fastest(run: Callable[[], None], events: int) -> float:
    times = []
    for _ in range(REPEATS):
        before = time.process_time()
        run()
        times.append(time.process_time() - before)
    return 1e6 * min(times) / events


def _context() -> AnswerContext:
    numbers = count()
    return AnswerContext(
        echo=ResponseEcho(model="bench-burst"),
        tools=ToolTable(),
        reasoning="summary",
        new_id=lambda prefix: f"{prefix}_{next(numbers):032x}",
        clock=lambda: 1_763_640_000.0,
        estimated_input_tokens=9,
    )
