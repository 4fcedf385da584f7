"""The provider that a client is told of: one name for it, wherever its requests end. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .models import Model

#: Its name in the clients' configuration.
NAME: Final = "qwen"
TITLE: Final = "Qwen"
#: What a client sends as its key where nobody looks at it.
ANY_KEY: Final = "anything"
#: Where the key is when somebody does.
LOCAL_KEY_VARIABLE: Final = "QWEN_LOCAL_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    base_url: str
    models: Sequence[Model]
    """The default first."""
    has_local_key: bool = False

    @property
    def default(self) -> Model:
        return self.models[0]
