"""All checks, in the order in which they are read. Pure."""

from __future__ import annotations

from . import account_checks, client_checks, installation_checks, route_checks, trust_checks
from .check import Check
from .facts import Facts


def examine(facts: Facts) -> list[Check]:
    return [
        *installation_checks.checks(facts),
        *route_checks.checks(facts),
        *trust_checks.checks(facts),
        *account_checks.checks(facts),
        *client_checks.checks(facts),
    ]
