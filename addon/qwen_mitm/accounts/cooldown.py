"""What is written down about an account beside its secrets: cooldowns and use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

#: The key of ``cooldowns`` that stands for all models.
ALL_MODELS: Final = "*"

type CooldownReason = Literal[
    "burst", "window", "concurrency", "spent", "not_entitled", "wrong_host", "model", "transient"
]


class Stored(BaseModel):
    """camelCase on disk, snake_case here; what it does not know it keeps."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        # Keys of other programs may hold secrets (``idToken``), and are plain text here.
        unknown = self.__pydantic_extra__ or {}
        for key, value in super().__repr_args__():
            yield key, ("…" if key in unknown else value)


class Cooldown(Stored):
    """Why an account, or one of its models, is left alone for a while."""

    until: int | None
    """None: until it is cleared, or the account is logged in again."""
    reason: CooldownReason
    message: str = ""
    """The upstream's words, without a secret."""
    since: int

    def is_over(self, now: int) -> bool:
        return self.until is not None and self.until <= now


class DayUsage(Stored):
    """What was used on one day, UTC."""

    date: str
    """YYYY-MM-DD."""
    requests: int = 0
    tokens: int = 0
