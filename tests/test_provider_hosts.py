import pytest

from qwen_mitm.provider_hosts import (
    VENDORS,
    Vendor,
    candidates,
    provider_named,
    recognise,
    vendor_at,
)
from qwen_mitm.providers import PROFILES, profile_for


@pytest.mark.parametrize(
    ("key", "providers"),
    [
        ("sk-sp-fake0123456789", ("coding-plan", "token-plan")),
        ("sk-or-v1-fake0123456789", ("openrouter",)),
        ("ms-fake-0123-4567", ("modelscope",)),
        ("sk-0123456789abcdef0123456789abcdef", ("dashscope",)),
    ],
)
def test_a_key_is_recognised_by_its_beginning(key: str, providers: tuple[str, ...]) -> None:
    assert recognise(key) == providers


@pytest.mark.parametrize(
    "key", ["", "sk-", "sk-ant-fake0123456789abcdef", "sk-proj-fake0123456789abcdef", "0123456789"]
)
def test_a_key_that_may_be_of_somebody_else_is_nobodys(key: str) -> None:
    assert recognise(key) == ()


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=lambda vendor: vendor.provider)
def test_every_vendor_has_a_profile_and_its_own_hosts(vendor: Vendor) -> None:
    assert vendor.provider in PROFILES
    for base_url in vendor.base_urls:
        assert base_url.startswith("https://")
        assert profile_for(base_url).name == vendor.provider
        assert vendor_at(base_url) is vendor


def test_no_two_vendors_share_a_host() -> None:
    urls = [url for vendor in VENDORS.values() for url in vendor.base_urls]
    assert len(urls) == len(set(urls))


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("Coding Plan", "coding-plan"),
        ("model_studio", "dashscope"),
        ("qwen", "oauth"),
        ("oauth", "oauth"),
        ("vLLM", "vllm"),
        ("llama.cpp", "llama.cpp"),
        ("acme", None),
    ],
)
def test_people_name_providers_as_they_like(name: str, provider: str | None) -> None:
    assert provider_named(name) == provider


def test_a_key_is_tried_at_the_hosts_of_its_vendor_alone() -> None:
    assert candidates(VENDORS["coding-plan"], None) == VENDORS["coding-plan"].base_urls


def test_a_base_url_that_was_given_is_the_only_one() -> None:
    given = "https://ws-1.cn-beijing.maas.aliyuncs.com/compatible-mode/v1/"
    assert candidates(VENDORS["dashscope"], given) == (given.rstrip("/"),)


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        ("http://127.0.0.1:8000", ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000")),
        ("http://127.0.0.1:8000/v1/", ("http://127.0.0.1:8000/v1",)),
        ("http://127.0.0.1:8000/v1/chat/completions", ("http://127.0.0.1:8000/v1",)),
    ],
)
def test_the_version_may_be_left_out_of_ones_own_server(given: str, tried: tuple[str, ...]) -> None:
    assert candidates(VENDORS["vllm"], given) == tried


def test_the_address_tells_the_vendor_where_it_can() -> None:
    assert vendor_at("http://127.0.0.1:11434/v1") is VENDORS["ollama"]
    assert vendor_at("https://llm.example.org/v1") is None
    assert vendor_at("https://portal.qwen.ai/v1") is None
