import pytest
from pydantic import SecretStr

from qwen_mitm.admission import admit, is_loopback, peers_may_be_remote
from qwen_mitm.errors import Unauthorized
from qwen_mitm.settings import Settings

OPEN = Settings()
LOCKED = Settings(local_key=SecretStr("fake-local-key"))


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_only_this_machines_own_addresses_are_loopback(address: str, own: bool) -> None:
    assert is_loopback(address) is own


def test_a_request_without_a_local_key_is_admitted_unless_a_web_page_sent_it() -> None:
    admit(((b"Authorization", b"Bearer anything"),), OPEN)
    for sign in ((b"Origin", b"https://page.test"), (b"Sec-Fetch-Site", b"cross-site")):
        with pytest.raises(Unauthorized, match="web pages"):
            admit((sign,), OPEN)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"authorization", b"Bearer fake-other"),),
        ((b"authorization", b"Bearer "),),
        ((b"authorization", "Bearer ä".encode()),),
    ],
)
def test_with_a_local_key_another_one_is_refused(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(Unauthorized, match="qwen_local_key"):
        admit(fields, LOCKED)


def test_the_local_key_opens() -> None:
    admit(((b"Authorization", b"Bearer fake-local-key"),), LOCKED)


def test_remote_peers_need_permission_and_a_key() -> None:
    assert not peers_may_be_remote(OPEN)
    assert not peers_may_be_remote(Settings(allow_remote=True))
    assert not peers_may_be_remote(LOCKED)
    assert peers_may_be_remote(Settings(allow_remote=True, local_key=SecretStr("fake")))
