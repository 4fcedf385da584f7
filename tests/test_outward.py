import pytest

from qwen_mitm.outward import Outward

CORP = {"HTTPS_PROXY": "http://user:fake%3Apassword@proxy.corp:3128"}


def address(outward: Outward, host: str, scheme: str = "https", port: int = 443) -> str | None:
    proxy = outward.proxy_for(scheme, host, port)
    return f"{proxy.host}:{proxy.port}" if proxy else None


def test_without_variables_there_is_no_proxy() -> None:
    assert address(Outward({}), "qwen.test") is None
    assert Outward({}).proxies == []


@pytest.mark.parametrize(
    ("env", "https", "http"),
    [
        ({"HTTPS_PROXY": "http://a:1"}, "a:1", None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "a:1", None),
        ({"HTTP_PROXY": "http://a:1"}, None, "a:1"),
        ({"ALL_PROXY": "a:1"}, "a:1", "a:1"),
        ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "b:1", "a:1"),
        ({"HTTPS_PROXY": "https://a"}, "a:443", None),
        ({"HTTPS_PROXY": "http://a"}, "a:80", None),
    ],
)
def test_each_scheme_has_its_variable_and_all_proxy_is_for_the_rest(
    env: dict[str, str], https: str | None, http: str | None
) -> None:
    assert address(Outward(env), "qwen.test") == https
    assert address(Outward(env), "qwen.test", "http", 80) == http


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "internal.corp", "corp"])
def test_this_machine_and_the_hosts_of_no_proxy_are_reached_directly(host: str) -> None:
    assert address(Outward({**CORP, "NO_PROXY": "corp"}), host) is None


def test_the_password_is_for_the_proxy_alone_and_not_shown() -> None:
    outward = Outward(CORP)
    login = outward.authorization("proxy.corp", 3128)
    assert login is not None
    assert login.get_secret_value() == "Basic dXNlcjpmYWtlOnBhc3N3b3Jk"
    assert outward.authorization("proxy.corp", 80) is None
    assert "fake" not in f"{outward.proxies[0]} {outward.proxies!r}"


@pytest.mark.parametrize("value", ["socks5://user:fake-password@a:1", "http://[::1", "http://:1"])
def test_what_cannot_be_used_is_told_without_being_quoted(value: str) -> None:
    outward = Outward({"ALL_PROXY": value})
    (problem,) = outward.problems
    assert "ALL_PROXY" in problem
    assert "fake" not in problem
    assert address(outward, "qwen.test") is None


def test_ourselves_can_be_left_out() -> None:
    outward = Outward({"ALL_PROXY": "http://127.0.0.1:8080", "HTTP_PROXY": "http://a:1"})
    outward.without(next(p for p in outward.proxies if p.port == 8080))
    assert address(outward, "qwen.test") is None
    assert address(outward, "qwen.test", "http", 80) == "a:1"
