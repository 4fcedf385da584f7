import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_mitm.accounts.files import AccountFileError, encode, parse, replace
from qwen_mitm.accounts.model import AccountFile
from qwen_mitm.errors import NoUsableAccount

WHERE = Path("accounts.json")


def rewritten(document: object) -> object:
    return json.loads(encode(parse(json.dumps(document).encode(), WHERE)))


def test_the_plugins_file_is_written_as_it_was_read() -> None:
    document = {
        "version": 1,
        "accounts": [
            {
                "refreshToken": "fake-refresh",
                "accessToken": "fake-access",
                "expires": 1795166830375,
                "resourceUrl": "portal.qwen.ai",
                "addedAt": 1,
                "lastUsed": 2,
                "rateLimitResetAt": 3,
                "health": {"successCount": 3, "lastSuccess": None},
            }
        ],
        "activeIndex": 0,
    }
    assert rewritten(document) == document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
# No key of ours has a capital at its beginning.
UNKNOWN = st.dictionaries(st.text(max_size=8).map(lambda key: f"X{key}"), JSON, max_size=4)


@given(of_file=UNKNOWN, of_account=UNKNOWN, of_cooldown=UNKNOWN)
def test_unknown_keys_of_any_value_survive(
    of_file: dict[str, object], of_account: dict[str, object], of_cooldown: dict[str, object]
) -> None:
    document = {
        "version": 1,
        "accounts": [
            {
                "refreshToken": "fake",
                "addedAt": 0,
                "lastUsed": 0,
                "cooldowns": {
                    "qwen-max": {"until": None, "reason": "spent", "since": 1, **of_cooldown}
                },
                **of_account,
            }
        ],
        "activeIndex": 0,
        **of_file,
    }
    assert rewritten(document) == document


def test_times_that_the_plugin_lost_are_numbers_again() -> None:
    # JavaScript writes NaN as null, and Math.max(undefined, x) is NaN.
    document = {"version": 1, "accounts": [{"refreshToken": "fake", "lastUsed": None}]}
    assert encode(parse(json.dumps(document).encode(), WHERE)).count(b'"lastUsed": 0') == 1


def test_keys_of_one_host_have_placeholders_of_their_own_that_outlast_a_rename() -> None:
    def placeholders(*names: str) -> list[str]:
        document = {
            "version": 1,
            "accounts": [{"name": name, "apiKey": "fake-key"} for name in names],
        }
        entries = json.loads(encode(parse(json.dumps(document).encode(), WHERE)))["accounts"]
        return [entry["refreshToken"] for entry in entries]

    assert len(set(placeholders("a", "b", "c"))) == 3
    assert placeholders("a", "b", "c") == placeholders("x", "b", "z")
    assert "fake-key" not in "".join(placeholders("a"))


def test_reading_and_writing_again_changes_nothing() -> None:
    document = {
        "version": 1,
        "accounts": [{"apiKey": "fake"}, {"refreshToken": "fake", "disabled": True}],
    }
    once = encode(parse(json.dumps(document).encode(), WHERE))
    assert encode(parse(once, WHERE)) == once


@pytest.mark.parametrize(
    "content",
    [
        b'{"version": 1, "accounts": [{"apiKey": "fake-secret", "lastUsed": "fake-secret"}]}',
        b'{"version": 1, "accounts": [{"apiKey": "fake-secret", "provider": "x"}]}',
        b'{"version": 1, "accounts": ["fake-secret"]}',
        b'{"version": "fake-secret"}',
        b'{"version": 1, "fake-secret',
        b"\xff\xfe fake-secret",
    ],
)
def test_what_is_wrong_is_said_without_a_secret(content: bytes) -> None:
    with pytest.raises(NoUsableAccount) as caught:
        parse(content, WHERE)
    assert "accounts.json" in caught.value.message
    assert "fake-secret" not in caught.value.message


def test_a_replacement_that_is_called_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_bytes(b"old")

    def refuse() -> None:
        raise AccountFileError("no")

    with pytest.raises(AccountFileError):
        replace(path, b"new", refuse)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_killed_writer_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.with_name("accounts.json.tmp-qwen-mitm").write_bytes(b"half")

    status = replace(path, b"new", lambda: None)

    assert path.read_bytes() == b"new"
    assert status.st_ino == path.stat().st_ino
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_the_file_stays_its_users_when_root_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_bytes(b"old")
    os.chown(path, 1234, 1234)

    replace(path, b"new", lambda: None)

    assert path.stat().st_uid == 1234
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_of_accounts_is_written_in_the_plugins_form() -> None:
    assert json.loads(encode(AccountFile(version=1))) == {
        "version": 1,
        "accounts": [],
        "activeIndex": 0,
    }
