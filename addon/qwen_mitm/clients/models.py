"""The models that clients are told of, with what they can do (qwen.md §2.3, §2.8, §2.9). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_MILLION: Final = 1_000_000
_64K: Final = 65_536
#: How much a model that thinks can be asked to.
EFFORTS: Final = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    name: str
    """As the host has it; upper and lower case count."""
    title: str
    context: int | None = None
    """Tokens; None: not known."""
    output: int = _64K
    thinks: bool = False
    sees: bool = False
    """Takes images."""


def _model(
    name: str,
    *,
    context: int = _MILLION,
    output: int = _64K,
    thinks: bool = False,
    sees: bool = False,
) -> Model:
    title = " ".join(word[:1].upper() + word[1:] for word in name.split("-"))
    return Model(name=name, title=title, context=context, output=output, thinks=thinks, sees=sees)


MODELS: Final[Mapping[str, Model]] = MappingProxyType(
    {
        model.name: model
        for model in (
            _model("qwen3-coder-plus"),
            _model("qwen3-coder-flash"),
            _model("qwen3-coder-next", context=262_144),
            _model("qwen3.8-max", thinks=True, context=983_616),
            _model("qwen3.8-flash", thinks=True),
            _model("qwen3.7-max", thinks=True),
            _model("qwen3.7-plus", thinks=True, sees=True),
            _model("qwen3.6-plus", thinks=True, sees=True),
            _model("qwen3.6-flash", thinks=True),
            _model("qwen3.5-plus", thinks=True, sees=True),
            _model("qwen3-max-2026-01-23", thinks=True, context=262_144),
            _model("qwen3-vl-plus", sees=True, context=262_144, output=32_768),
        )
    }
)

#: What each provider offers; the first is what a client is given unless told otherwise.
OFFERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "coding-plan": (
            "qwen3-coder-plus",
            "qwen3.7-plus",
            "qwen3.6-plus",
            "qwen3.5-plus",
            "qwen3-coder-next",
            "qwen3-max-2026-01-23",
        ),
        "token-plan": (
            "qwen3.7-plus",
            "qwen3.8-max",
            "qwen3.8-flash",
            "qwen3.7-max",
            "qwen3.6-plus",
            "qwen3.6-flash",
        ),
        "dashscope": (
            "qwen3-coder-plus",
            "qwen3-coder-flash",
            "qwen3.8-max",
            "qwen3.8-flash",
            "qwen3.7-max",
            "qwen3.7-plus",
        ),
        "openrouter": ("qwen/qwen3-coder",),
        "portal": ("qwen3-coder-plus", "qwen3-coder-flash", "qwen3-vl-plus"),
        "web-chat": ("qwen3-max",),
    }
)
#: Shown when there is no account to go by.
USUAL_PROVIDER: Final = "coding-plan"


def model_named(name: str) -> Model:
    """With what is known of it; a name that is not in the table is the person's own."""
    return MODELS.get(name) or Model(name=name, title=name)


def models_for(provider: str, wanted: tuple[str, ...] = ()) -> tuple[Model, ...]:
    """What to tell a client, the default first; none: nobody knows what this provider offers."""
    offered = [name for name in OFFERS.get(provider, ()) if name not in wanted]
    return tuple(model_named(name) for name in (*wanted, *offered))
