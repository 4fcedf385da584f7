from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qwen_mitm.accounts.cooldown import Cooldown
from qwen_mitm.accounts.model import Account
from qwen_mitm.observing.labels import OTHER
from qwen_mitm.observing.metrics import MOST_MODELS, Metrics
from qwen_mitm.observing.present import Present
from qwen_mitm.reports import Fault, RequestRefused
from tests.observing.turns import a_turn
from tests.test_status import STATUS

NOW = 1_795_166_830_000
LIMITED = Account.model_validate(
    {"name": "work", "apiKey": "fake-key"}
    | {
        "cooldowns": {
            "*": Cooldown(until=NOW + 60_000, reason="window", since=NOW),
            "qwen3-max": Cooldown(until=None, reason="model", since=NOW),
            "qwen-old": Cooldown(until=NOW - 1, reason="burst", since=NOW),
        }
    }
)
PLAN = Account.model_validate({"name": "plan", "apiKey": "fake-key"})


def present() -> Present:
    return Present(
        status=STATUS,
        accounts=(PLAN, LIMITED),
        problem=None,
        open_streams=3,
        now_ms=NOW,
        base_url="https://portal.qwen.ai/v1",
        currency="USD",
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(present)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }


def test_a_turn_is_counted_with_its_tokens_times_and_failovers(metrics: Metrics) -> None:
    metrics.turn_ended(
        a_turn("plan", "work", statuses=(429,), input=1000, cached=800, output=126, reasoning=26)
    )
    found = samples(metrics)
    assert found["qwen_turns_total", "work", "qwen3-coder-plus", "completed"] == 1
    tokens = {
        kind: found["qwen_tokens_total", "work", kind, "qwen3-coder-plus"]
        for kind in ("input", "cached", "output", "reasoning")
    }
    assert tokens == {"input": 1000, "cached": 800, "output": 126, "reasoning": 26}
    assert found["qwen_failovers_total", "plan", "rate_limit"] == 1
    first = "qwen_time_to_first_token_seconds"
    assert found[f"{first}_sum", "qwen3-coder-plus"] == 0.4
    assert found[f"{first}_bucket", "0.25", "qwen3-coder-plus"] == 0
    assert found[f"{first}_bucket", "0.5", "qwen3-coder-plus"] == 1
    assert found["qwen_output_tokens_per_second_sum", "qwen3-coder-plus"] == 63


def test_the_cost_is_counted_by_currency(metrics: Metrics) -> None:
    metrics.turn_ended(a_turn("plan", cost=0.25))
    metrics.turn_ended(a_turn("plan", cost=0.5))
    metrics.turn_ended(a_turn("plan", cost=3.0, currency="CNY"))
    metrics.turn_ended(a_turn("plan"))
    found = samples(metrics)
    assert found["qwen_cost_total", "plan", "USD", "qwen3-coder-plus"] == 0.75
    assert found["qwen_cost_total", "plan", "CNY", "qwen3-coder-plus"] == 3


def test_errors_are_counted_by_class_also_of_requests_that_became_no_turns(
    metrics: Metrics,
) -> None:
    fault = Fault(message="no", status=503)
    metrics.turn_ended(a_turn("plan", outcome="refused", fault=fault, first_event_s=None))
    metrics.refused(RequestRefused(line="", fault=Fault(message="no", status=400)))
    found = samples(metrics)
    assert found["qwen_errors_total", "upstream_error"] == 1
    assert found["qwen_errors_total", "request_refused"] == 1
    assert found["qwen_turns_total", "plan", OTHER, "refused"] == 1


def test_what_holds_now_is_looked_up_when_it_is_asked_for(metrics: Metrics) -> None:
    found = samples(metrics)
    assert found["qwen_open_streams",] == 3
    cooldowns = {key[1:]: value for key, value in found.items() if key[0] == "qwen_cooldowns"}
    assert cooldowns == {("work", "window", "account"): 1, ("work", "model", "model"): 1}
    assert found["qwen_account_usable", "plan"] == 1
    assert found["qwen_account_usable", "work"] == 0
    assert found["qwen_build_info", "12.2.3", "3.13.0", "1.2.3"] == 1


def test_clients_cannot_make_any_number_of_series(metrics: Metrics) -> None:
    for number in range(500):
        metrics.turn_ended(a_turn("plan", model=f"made-up-{number}", outcome="refused"))
        metrics.turn_ended(a_turn("plan", model=f"real-{number}", output=20))
    turns = {key[2] for key in samples(metrics) if key[0] == "qwen_turns_total"}
    assert len(turns) == MOST_MODELS + 1
    assert not any(model.startswith("made-up") for model in turns)


def test_no_speed_is_made_of_a_few_tokens(metrics: Metrics) -> None:
    metrics.turn_ended(a_turn("plan", output=3))
    metrics.turn_ended(a_turn("plan", output=300, duration_s=0.41))
    assert ("qwen_output_tokens_per_second_sum", "qwen3-coder-plus") not in samples(metrics)
