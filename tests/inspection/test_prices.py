import json
from typing import Any

import pytest

from qwen_mitm.inspection.prices import PriceTable, read_prices

MODEL: dict[str, Any] = {"input": 1.0, "cached_input": 0.1, "output": 5.0}


def table(**model: Any) -> PriceTable:
    return read_prices(json.dumps({"date": "2026-11-01", "models": {"m": MODEL | model}}))


def test_each_kind_of_token_has_its_price() -> None:
    assert table().cost("m", input_tokens=2_000_000, cached=1_000_000, output_tokens=10_000) == (
        "1.1500 USD"
    )


def test_cached_tokens_without_a_price_cost_what_others_do() -> None:
    prices = table(cached_input=None)
    assert prices.cost("m", input_tokens=1_000_000, cached=500_000, output_tokens=0) == "1.0000 USD"


def test_a_model_without_a_price_costs_nothing_that_is_known() -> None:
    assert table().cost("other", input_tokens=1, cached=0, output_tokens=1) == ""
    assert PriceTable().cost("m", input_tokens=1, cached=0, output_tokens=1) == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("no JSON", "the file"),
        ('{"models": {"m": {"input": 1}}}', r"models\.m\.output"),
        ('{"models": {"m": {"input": -1, "output": 1}}}', r"models\.m\.input"),
        ('{"price": {}}', "price"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_prices(text)
