from __future__ import annotations

import pytest

from qwen_mitm.clients.environment import Trust, Way, for_sdks, no_proxy, through

WAY = Way(
    proxy="http://127.0.0.1:4321",
    base_url="https://portal.qwen.ai/v1",
    hosts=("https://portal.qwen.ai:443",),
)
TRUST = Trust(bundle="/run/bundle.pem", extra="/run/extra.pem")


def test_the_proxy_is_named_in_both_cases_whatever_was_there() -> None:
    changed = through({"https_proxy": "http://corporate.test:3128"}, WAY, TRUST)

    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        assert changed[name] == "http://127.0.0.1:4321"


def test_variables_that_replace_get_the_whole_bundle() -> None:
    changed = through({}, WAY, TRUST)

    replacing = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CODEX_CA_CERTIFICATE")
    assert {changed[name] for name in replacing} == {"/run/bundle.pem"}
    assert changed["NODE_EXTRA_CA_CERTS"] == "/run/extra.pem"


def test_exceptions_of_the_person_are_kept_and_this_machine_is_added_once() -> None:
    env = {"NO_PROXY": "internal.test,localhost", "no_proxy": "other.test internal.test"}

    changed = through(env, WAY, TRUST)

    assert changed["NO_PROXY"] == "internal.test,localhost,other.test,127.0.0.1,::1"
    assert changed["no_proxy"] == changed["NO_PROXY"]


@pytest.mark.parametrize("entry", ["*", "portal.qwen.ai", ".qwen.ai", "qwen.ai", "*.qwen.ai:443"])
def test_an_exception_that_leads_past_the_proxy_is_left_out_and_named(entry: str) -> None:
    value, left_out = no_proxy({"NO_PROXY": f"{entry},notqwen.ai,a.test"}, WAY.hosts)

    assert left_out == (entry,)
    assert value == "notqwen.ai,a.test,localhost,127.0.0.1,::1"


def test_in_reverse_mode_nothing_is_a_proxy() -> None:
    reverse = Way(proxy=None, base_url="http://127.0.0.1:4321/v1")

    assert through({}, reverse, TRUST) == {}
    assert for_sdks({}, reverse)["OPENAI_BASE_URL"] == "http://127.0.0.1:4321/v1"


def test_what_the_person_set_for_an_sdk_stays() -> None:
    assert for_sdks({"OPENAI_BASE_URL": "https://other.test/v1"}, WAY) == {
        "OPENAI_API_KEY": "anything"
    }
    assert for_sdks({"QWEN_LOCAL_KEY": "fake-local"}, WAY)["OPENAI_API_KEY"] == "fake-local"
