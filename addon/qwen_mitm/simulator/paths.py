"""Where things are."""

from __future__ import annotations

CONTROL = "/_simulator/"
CHAT = "/chat/completions"
RESPONSES = "/responses"
MODELS = "/models"
PREFIXES = ("/v1", "/compatible-mode/v1")


def is_control(path: str) -> bool:
    return path.startswith(CONTROL)


def endpoint(path: str) -> str | None:
    """The endpoint behind one of the known prefixes, else None."""
    plain = path.partition("?")[0]
    for prefix in PREFIXES:
        rest = plain.removeprefix(prefix)
        if rest != plain and rest in (CHAT, RESPONSES, MODELS):
            return rest
    return None
