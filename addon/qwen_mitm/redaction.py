"""Credentials that an upstream quotes are taken out of what it says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pydantic import SecretStr

from qwen_mitm.errors import BridgeError
from qwen_mitm.wire.chat import Failure

#: Self-hosted servers take any key; one as short as this is no secret, but part of many words.
SHORTEST = 8
SUBSTITUTE = "(the account's key)"


def redacted(text: str, secrets: Iterable[SecretStr]) -> str:
    for secret in secrets:
        value = secret.get_secret_value()
        if len(value) >= SHORTEST:
            text = text.replace(value, SUBSTITUTE)
    return text


def redacted_bytes(data: bytes, secrets: Iterable[SecretStr]) -> bytes:
    for secret in secrets:
        value = secret.get_secret_value().encode()
        if len(value) >= SHORTEST:
            data = data.replace(value, SUBSTITUTE.encode())
    return data


def redact_error(error: BridgeError, secrets: Iterable[SecretStr]) -> None:
    """Change an error in place: its message, type, param, code and headers."""
    secrets = list(secrets)
    error.message = redacted(error.message, secrets)
    error.type = redacted(error.type, secrets)
    error.param = error.param and redacted(error.param, secrets)
    error.code = error.code and redacted(error.code, secrets)
    error.headers = {name: redacted(value, secrets) for name, value in error.headers.items()}


def redacted_failure(failure: Failure, secrets: Iterable[SecretStr]) -> Failure:
    found = list(secrets)
    return replace(
        failure,
        message=redacted(failure.message, found),
        type=redacted(failure.type, found),
        param=failure.param and redacted(failure.param, found),
        code=failure.code and redacted(failure.code, found),
    )
