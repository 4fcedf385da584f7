"""What is done with the record of a turn, and what is shown of all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from qwen_mitm.accounts.shown import document
from qwen_mitm.exchange import Answer
from qwen_mitm.observing.days import FILE_NAME, Days
from qwen_mitm.observing.document import Observed
from qwen_mitm.observing.metrics import Metrics
from qwen_mitm.observing.page import Asked, respond
from qwen_mitm.observing.present import Present
from qwen_mitm.observing.recent import Recent
from qwen_mitm.reports import RequestRefused, TurnEnded
from qwen_mitm.responses_file import state_home
from qwen_mitm.settings import Settings

if TYPE_CHECKING:
    from qwen_mitm.observing.listening import Listeners, MayPass
    from qwen_mitm.observing.spans import Spans

logger = logging.getLogger(__name__)


class Observer:
    """Used on one event loop. What goes wrong in it is logged, and no request notices."""

    def __init__(
        self,
        present: Callable[[], Present],
        users: Callable[[], MayPass | None],
        env: Mapping[str, str],
    ) -> None:
        self._present = present
        self._users = users
        self._path = state_home(env) / FILE_NAME
        self._since = _now_ms()
        self._metrics = Metrics(present)
        self._recent = Recent()
        self._days = self._opened_days(Settings.model_fields["days_kept"].default)
        self._listeners: Listeners | None = None
        self._spans: Spans | None = None
        self._closing: list[Spans] = []

    def follow(self, settings: Settings) -> None:
        """Do as these say from now on. Called on the event loop."""
        if settings.days_kept != self._days.keep:
            self._days.close()
            self._days = self._opened_days(settings.days_kept)
        self._listen(settings)
        self._trace(settings.otel)

    def tell(self, ended: TurnEnded | RequestRefused) -> None:
        """A turn is over, or a request did not become one."""
        try:
            if isinstance(ended, TurnEnded):
                self._turn_ended(ended)
            else:
                self._metrics.refused(ended)
                self._recent.refused(ended)
        except Exception:
            logger.exception("qwen-mitm: a bug in the figures of a request")

    def _turn_ended(self, turn: TurnEnded) -> None:
        self._metrics.turn_ended(turn)
        self._recent.turn_ended(turn)
        self._days.turn_ended(turn)
        if self._spans:
            self._spans.turn_ended(turn)

    def answer(self, asked: Asked) -> Answer:
        return respond(asked, self._status, self._metrics.page)

    @property
    def is_busy(self) -> bool:
        """Something is still being written."""
        return self._days.is_writing or any(spans.is_busy for spans in self._closing)

    def finish(self) -> None:
        """Begin to write what is left, and listen no more."""
        self._days.finish()
        self._stop()

    def close(self) -> None:
        """Write what is left; blocks for as long as that takes."""
        self._days.close()
        self._stop()
        for spans in self._closing:
            spans.wait()

    def _stop(self) -> None:
        if self._listeners:
            self._listeners.close()
        self._trace(False)

    def _opened_days(self, keep: int) -> Days:
        return Days(self._path, keep, _today, time.monotonic)

    def _listen(self, settings: Settings) -> None:
        # Workers share the proxy's port, but each counts for itself.
        beyond = self._present().status.worker - 1
        ports = [port and port + beyond for port in (settings.status_port, settings.metrics_port)]
        if self._listeners is None and any(ports):
            from qwen_mitm.observing.listening import Listeners

            self._listeners = Listeners(self.answer, self._users)
        if self._listeners:
            self._listeners.listen(ports)

    def _trace(self, wanted: bool) -> None:
        if wanted == (self._spans is not None):
            return
        if self._spans:
            self._spans.close()
            self._closing.append(self._spans)
            self._spans = None
            return
        try:
            from qwen_mitm.observing.spans import from_environment
        except ImportError:
            logger.warning(
                "qwen-mitm: qwen_otel needs OpenTelemetry: pip install 'qwen-mitm[otel]'"
            )
            return
        self._spans = from_environment()

    def _status(self) -> bytes:
        present = self._present()
        status = present.status.model_copy(update={"observed": self._observed(present)})
        return status.model_dump_json(indent=2).encode() + b"\n"

    def _observed(self, present: Present) -> Observed:
        shown = (document(a, present.now_ms, present.base_url) for a in present.accounts)
        return Observed(
            now=present.now_ms,
            since=self._since,
            open_streams=present.open_streams,
            accounts=tuple(shown),
            accounts_problem=present.problem,
            days=tuple(self._days.totals(present.currency)),
            currency=present.currency,
            days_kept=self._days.keep,
            moments=self._recent.moments,
            failures=self._recent.failures,
        )


def _today() -> date:
    return datetime.now(UTC).date()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
