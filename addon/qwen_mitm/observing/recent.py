"""The last turns and failures of this process, in memory. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from qwen_mitm.observing.document import Mishap, Moment
from qwen_mitm.observing.faults import ADVICE, FaultClass, of_fault, of_turn
from qwen_mitm.reports import Fault, RequestRefused, Try, TurnEnded

MOST_MOMENTS: Final = 300
MOST_FAILURES: Final = 20
# Some upstreams quote the request in their errors.
_LONGEST_MESSAGE: Final = 1000
_LONGEST_NAME: Final = 80


class Recent:
    """Bounded by number."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=MOST_MOMENTS)
        self._failures: deque[Mishap] = deque(maxlen=MOST_FAILURES)

    @property
    def moments(self) -> tuple[Moment, ...]:
        return tuple(self._moments)

    @property
    def failures(self) -> tuple[Mishap, ...]:
        """The last one first."""
        return tuple(reversed(self._failures))

    def turn_ended(self, turn: TurnEnded) -> None:
        kind, model = of_turn(turn), turn.model[:_LONGEST_NAME]
        if kind is not None:
            self._failed(kind, turn.ended_at, turn.fault, model, turn.tries)
        elif turn.first_event_s is not None and turn.streamed and turn.tries:
            self._moments.append(
                Moment(
                    at=turn.ended_at,
                    model=model,
                    account=turn.tries[-1].account,
                    first_event_s=round(turn.first_event_s, 3),
                    tokens_per_second=turn.tokens_per_second,
                )
            )

    def refused(self, refused: RequestRefused) -> None:
        self._failed(of_fault(refused.fault, asked=False), refused.ended_at, refused.fault, "", ())

    def _failed(
        self, kind: FaultClass, at: float, fault: Fault | None, model: str, tries: tuple[Try, ...]
    ) -> None:
        explanation, to_do = ADVICE[kind]
        self._failures.append(
            Mishap(
                at=at,
                kind=kind,
                model=model,
                message=fault.message[:_LONGEST_MESSAGE] if fault else "",
                explanation=explanation,
                to_do=to_do,
                attempts=tuple(f"{a.account}: {a.status or 'no answer'}" for a in tries),
            )
        )
