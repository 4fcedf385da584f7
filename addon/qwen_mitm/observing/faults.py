"""Kinds of failures, few enough to be counted, each with an explanation and what to do. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from qwen_mitm.reports import Fault, Try, TurnEnded

type FaultClass = Literal[
    "accounts_limited",
    "answer_failed",
    "bug",
    "client_left",
    "context_too_long",
    "key_refused",
    "local_key",
    "model_unknown",
    "no_account",
    "proxy_stopped",
    "quota",
    "rate_limit",
    "request_refused",
    "timeout",
    "unreachable",
    "upstream_error",
]


class Advice(NamedTuple):
    explanation: str
    to_do: str


ADVICE: Final[dict[FaultClass, Advice]] = {
    "accounts_limited": Advice(
        "Every account is limited.",
        "Wait for the first reset in the table of accounts, or add an account: qwen-mitm login",
    ),
    "answer_failed": Advice(
        "The upstream broke its answer off, or ended it with an error.",
        "Repeat the request. If it comes again, ask another account or another model.",
    ),
    "bug": Advice(
        "qwen-mitm could not translate this.",
        "The log of the proxy has the details; please report it.",
    ),
    "client_left": Advice(
        "The client closed the connection before the answer was complete.",
        "Nothing, if you stopped it. Else look at the client's timeout.",
    ),
    "context_too_long": Advice(
        "The conversation is longer than the model's context.",
        "Compact it, begin a new one, or choose a model with a larger context.",
    ),
    "key_refused": Advice(
        "The host refused the account's key or login.",
        "See what it is good for: qwen-mitm accounts test. Then give it a new one: qwen-mitm login",
    ),
    "local_key": Advice(
        "The request did not have the local key of this proxy, or came from a web page.",
        "Send the value of QWEN_LOCAL_KEY as the client's API key.",
    ),
    "model_unknown": Advice(
        "No account offers this model.",
        "Choose a model that the provider has, or add an account that offers this one.",
    ),
    "no_account": Advice(
        "There is no account that can be used.",
        "See what is wrong: qwen-mitm accounts. Add one: qwen-mitm login",
    ),
    "proxy_stopped": Advice(
        "The proxy was stopped before the answer was complete.",
        "Repeat the request.",
    ),
    "quota": Advice(
        "The quota of the account is used up, or a bill is unpaid.",
        "Wait for the reset in the table of accounts, or add an account: qwen-mitm login",
    ),
    "rate_limit": Advice(
        "The host limits how many requests or tokens are sent in a while.",
        "Wait a moment, send fewer requests at once, or add an account: qwen-mitm login",
    ),
    "request_refused": Advice(
        "The request itself was refused; no other account would take it.",
        "Change what the message names.",
    ),
    "timeout": Advice(
        "The upstream sent nothing for too long.",
        "Repeat the request, or raise qwen_upstream_timeout_seconds.",
    ),
    "unreachable": Advice(
        "The upstream could not be reached, or hung up.",
        "Look at the network, its proxy and the account's base URL: qwen-mitm doctor",
    ),
    "upstream_error": Advice(
        "The upstream failed.",
        "Repeat the request later, or add an account at another provider: qwen-mitm login",
    ),
}

_BY_CODE: Final[dict[str, FaultClass]] = {
    "context_length_exceeded": "context_too_long",
    "model_not_found": "model_unknown",
    "no_usable_account": "no_account",
    "quota_exceeded": "accounts_limited",
    "insufficient_quota": "quota",
    "arrearage": "quota",
    "translation_fault": "bug",
    "upstream_timeout": "timeout",
    "upstream_unreachable": "unreachable",
    "rate_limit_exceeded": "rate_limit",
    "server_is_overloaded": "upstream_error",
}
_BY_STATUS: Final[dict[int, FaultClass]] = {
    401: "key_refused",
    402: "quota",
    403: "key_refused",
    408: "timeout",
    429: "rate_limit",
    502: "unreachable",
    504: "timeout",
}
_QUOTA: Final = re.compile(r"quota|arrearage|billing|balance", re.IGNORECASE)
_STOPPED: Final = "qwen-mitm was stopped"


def of_turn(turn: TurnEnded) -> FaultClass | None:
    """Why its client got no whole answer; None: it did."""
    match turn.outcome:
        case "completed" | "incomplete":
            return None
        case "broken off":
            return "client_left"
    return of_fault(turn.fault, asked=bool(turn.tries))


def of_fault(fault: Fault | None, *, asked: bool) -> FaultClass:
    """``asked``: an upstream was asked, so that the words may be its own."""
    if fault is None:
        return "answer_failed"
    if fault.message.startswith(_STOPPED):
        return "proxy_stopped"
    if fault.type == "usage_limit_reached":
        return "accounts_limited"
    if found := _BY_CODE.get((fault.code or "").lower()):
        return found
    if fault.status == 401 and not asked:
        return "local_key"
    if fault.status == 429 and _QUOTA.search(f"{fault.code} {fault.message}"):
        return "quota"
    return _by_status(fault.status)


def of_attempt(attempt: Try) -> FaultClass:
    """Why the account of that attempt was left for another one."""
    if attempt.status is None:
        return "unreachable"
    if attempt.status < 300:
        return "answer_failed"
    return _by_status(attempt.status)


def _by_status(status: int | None) -> FaultClass:
    if status is None:
        return "answer_failed"
    if found := _BY_STATUS.get(status):
        return found
    return "upstream_error" if status >= 500 else "request_refused"
