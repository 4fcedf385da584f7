from pydantic import SecretStr

from qwen_mitm.errors import UpstreamRefused
from qwen_mitm.redaction import redact_error, redacted, redacted_bytes, redacted_failure
from qwen_mitm.wire.chat import Failure

KEY = SecretStr("fake-account-key")
SHORT = SecretStr("k")


def test_a_key_is_taken_out_wherever_an_error_has_it() -> None:
    value = KEY.get_secret_value()
    error = UpstreamRefused(
        f"bad {value}", status=401, type=value, param=value, code=value, headers={"x-id": value}
    )
    redact_error(error, [KEY])
    assert value not in error.body().decode()
    assert error.headers == {"x-id": "(the account's key)"}


def test_a_key_that_is_part_of_words_is_left_alone() -> None:
    assert redacted("not known", [SHORT]) == "not known"
    assert redacted_bytes(b"not known", [SHORT]) == b"not known"


def test_a_failure_in_mid_stream_is_redacted_too() -> None:
    value = KEY.get_secret_value()
    failure = redacted_failure(Failure(f"no {value}", type=value, code=value, param=value), [KEY])
    assert value not in repr(failure)


def test_bytes_are_passed_as_they_are_but_for_the_key() -> None:
    assert redacted_bytes(b"\xff fake-account-key", [KEY]) == b"\xff (the account's key)"


def test_all_of_several_secrets_are_taken_out() -> None:
    secrets = [SHORT, KEY, SecretStr("fake-cookie-value")]
    assert redacted_bytes(b"fake-cookie-value", secrets) == b"(the account's key)"
    failure = redacted_failure(Failure("fake-cookie-value fake-account-key"), secrets)
    assert failure.message == "(the account's key) (the account's key)"
