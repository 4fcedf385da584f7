import json

import pytest

from qwen_mitm.status import STATUS_PATH, Status, answer

STATUS = Status(
    version="1.2.3",
    mitmproxy="12.2.3",
    python="3.13.0",
    pid=4711,
    modes=("regular",),
    listen=("127.0.0.1",),
    confdir="/home/user/.mitmproxy",
    hosts=("https://portal.qwen.ai:443",),
    accounts_file="/home/user/accounts.json",
    allow_remote=False,
    needs_local_key=False,
)


def test_the_document_can_be_read_again() -> None:
    told = answer("GET", STATUS_PATH, True, STATUS)
    assert told.status == 200
    assert Status.model_validate_json(told.body) == STATUS


def test_keys_of_a_later_version_are_ignored() -> None:
    later = json.loads(STATUS.model_dump_json()) | {"mood": "good"}
    assert Status.model_validate(later) == STATUS


@pytest.mark.parametrize(
    ("method", "path", "is_local", "status"),
    [
        ("GET", STATUS_PATH, False, 403),
        ("GET", "/", True, 404),
        ("POST", STATUS_PATH, True, 405),
        ("GET", f"{STATUS_PATH}?again", True, 200),
    ],
)
def test_it_can_only_be_read_and_only_here(
    method: str, path: str, is_local: bool, status: int
) -> None:
    assert answer(method, path, is_local, STATUS).status == status
