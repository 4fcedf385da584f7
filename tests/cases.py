"""How many generated cases a property is tried with.

``scripts/test`` takes some hundreds; ``scripts/nightly`` loads the profile with many more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

NIGHTLY: Final = 10_000

settings.register_profile(
    "nightly",
    max_examples=NIGHTLY,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def cases(count: int) -> Callable[[Callable[..., Any]], Any]:
    """For a property of the translation: so many cases, and never fewer than the profile has.

    Above ``@given``; the marker ``generated`` is what ``scripts/nightly`` selects.
    """

    def prepared(test: Callable[..., Any]) -> Any:
        most = max(count, settings.default.max_examples if settings.default else 0)
        return pytest.mark.generated(settings(max_examples=most, deadline=None)(test))

    return prepared
