"""What tokens cost. There are no prices here: they change, and plans have other ones. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_MILLION = 1_000_000


class Price(BaseModel):
    """For a million tokens of each kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)
    """None: as other input."""


class PriceTable(BaseModel):
    """Prices by the name of the model, as the client writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str = ""
    """When the prices were looked up."""
    currency: str = "USD"
    models: dict[str, Price] = Field(default_factory=dict)

    def cost(self, model: str, *, input_tokens: int, cached: int, output_tokens: int) -> str:
        """Such as ``0.0113 USD``; "" for a model without a price."""
        amount = self.amount(
            model, input_tokens=input_tokens, cached=cached, output_tokens=output_tokens
        )
        return "" if amount is None else f"{amount:.4f} {self.currency}"

    def amount(
        self, model: str, *, input_tokens: int, cached: int, output_tokens: int
    ) -> float | None:
        """In the table's currency; None for a model without a price."""
        price = self.models.get(model)
        if price is None:
            return None
        of_cached = price.input if price.cached_input is None else price.cached_input
        fresh = max(0, input_tokens - cached)
        sum_ = fresh * price.input + cached * of_cached + output_tokens * price.output
        return sum_ / _MILLION


def read_prices(text: str) -> PriceTable:
    """The table of a JSON file.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        return PriceTable.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from None
