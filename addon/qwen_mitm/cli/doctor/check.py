"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Status = Literal["ok", "warning", "fault", "not_checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """``message`` says in one line what is, ``advice`` in one line what to do about it."""

    id: str
    status: Status
    message: str
    advice: str = ""

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "id": self.id,
            "status": self.status,
            "message": self.message,
            "advice": self.advice,
        }


def ok(name: str, message: str) -> Check:
    return Check(name, "ok", message)


def warning(name: str, message: str, advice: str) -> Check:
    return Check(name, "warning", message, advice)


def fault(name: str, message: str, advice: str) -> Check:
    return Check(name, "fault", message, advice)


def not_checked(name: str, why: str, advice: str = "") -> Check:
    return Check(name, "not_checked", why, advice)
