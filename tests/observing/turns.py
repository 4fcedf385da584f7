"""Records of turns that are over."""

from __future__ import annotations

from qwen_mitm.reports import Fault, Tokens, Try, TurnEnded


def a_turn(
    *accounts: str,
    model: str = "qwen3-coder-plus",
    outcome: str = "completed",
    first_event_s: float | None = 0.4,
    duration_s: float = 2.4,
    fault: Fault | None = None,
    statuses: tuple[int | None, ...] = (),
    cost: float | None = None,
    currency: str = "USD",
    **tokens: int,
) -> TurnEnded:
    """Answered by the last account; those before it failed with ``statuses``."""
    tries = tuple(
        Try(
            account=name,
            status=status,
            failure=None,
            host="coding-intl.dashscope.aliyuncs.com",
            port=443,
            began_s=0.1 * place,
            head_s=None if status is None else 0.1 * place + 0.05,
        )
        for place, (name, status) in enumerate(
            zip(accounts, (*statuses, *[200] * len(accounts)), strict=False)
        )
    )
    return TurnEnded(
        line="",
        model=model,
        outcome=outcome,
        tries=tries,
        tokens=Tokens.model_validate(tokens),
        first_event_s=first_event_s,
        response_id="resp_fake",
        ended_at=1_795_166_830.0,
        duration_s=duration_s,
        fault=fault,
        cost=cost,
        currency=currency,
    )
