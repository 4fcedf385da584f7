import pytest

from qwen_mitm.proxy_variables import host_and_port, is_excluded, variable


def test_of_two_spellings_the_lower_case_one_counts() -> None:
    env = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}
    assert variable(env, "HTTPS_PROXY") == "http://lower:1"
    assert variable({"HTTPS_PROXY": " http://upper:1 "}, "HTTPS_PROXY") == "http://upper:1"
    assert variable({}, "HTTPS_PROXY") == ""


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("http://user:password@proxy.test", ("proxy.test", 80)),
        ("socks5://proxy.test", ("proxy.test", 1080)),
        ("http://[::1]:8080/", ("::1", 8080)),
        ("http://proxy.test:port", None),
        ("http://[::1", None),
    ],
)
def test_a_proxys_address_is_read(address: str, found: tuple[str, int] | None) -> None:
    assert host_and_port(address) == found


@pytest.mark.parametrize(
    ("no_proxy", "is_covered"),
    [
        ("", False),
        ("localhost,127.0.0.1", False),
        ("*", True),
        ("portal.qwen.ai", True),
        ("PORTAL.QWEN.AI", True),
        ("qwen.ai", True),
        (".qwen.ai", True),
        ("*.qwen.ai", True),
        ("localhost, .qwen.ai", True),
        ("notqwen.ai", False),
        ("al.qwen.ai", False),
        ("portal.qwen.ai:443", True),
        ("portal.qwen.ai:8443", False),
        ("::1", False),
    ],
)
def test_no_proxy_covers_a_host_and_those_below_it(no_proxy: str, is_covered: bool) -> None:
    assert is_excluded(no_proxy, "portal.qwen.ai", 443) is is_covered
