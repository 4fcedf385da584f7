"""Where each vendor's keys work and how they begin (qwen.md §2.9). Pure.

A key is only ever shown to the hosts of its own vendor, so what cannot be told is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .providers import profile_for

#: What an account has as its key where the server wants none.
NO_KEY: Final = "EMPTY"

_PLAN_TERMS: Final = (
    "Alibaba sells this plan for interactive use in coding programs, and may end a plan whose key "
    "is used in scripts or as the backend of an application. Whether your use is allowed is "
    "between you and Alibaba."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One that sells keys, or a program that one runs oneself."""

    provider: str
    """The name of its profile."""
    title: str
    base_urls: tuple[str, ...] = ()
    """Its hosts, the likeliest first; none for a server of one's own."""
    models: tuple[str, ...] = ()
    """Cheap ones that it is known to have, to be asked for one token."""
    key_path: str = "/models"
    """What a GET can ask only with a key."""
    terms: str = ""
    local_url: str = ""
    """Where a server of one's own listens unless told otherwise."""

    @property
    def is_own(self) -> bool:
        return not self.base_urls


def _dashscope(host: str) -> str:
    return f"https://{host}.aliyuncs.com/compatible-mode/v1"


VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        vendor.provider: vendor
        for vendor in (
            Vendor(
                provider="coding-plan",
                title="Coding Plan",
                base_urls=(
                    "https://coding-intl.dashscope.aliyuncs.com/v1",
                    "https://coding.dashscope.aliyuncs.com/v1",
                ),
                models=("qwen3-coder-plus", "qwen3.5-plus"),
                terms=_PLAN_TERMS,
            ),
            Vendor(
                provider="token-plan",
                title="Token Plan",
                base_urls=(
                    "https://token-plan.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1",
                    "https://token-plan.cn-beijing.maas.aliyuncs.com/compatible-mode/v1",
                ),
                models=("qwen3.8-flash", "qwen3.6-flash"),
                terms=_PLAN_TERMS,
            ),
            Vendor(
                provider="dashscope",
                title="Model Studio, pay as you go",
                base_urls=(
                    _dashscope("dashscope-intl"),
                    _dashscope("dashscope"),
                    _dashscope("dashscope-us"),
                    _dashscope("cn-hongkong.dashscope"),
                ),
                models=("qwen-flash", "qwen-plus"),
            ),
            Vendor(
                provider="openrouter",
                title="OpenRouter",
                base_urls=("https://openrouter.ai/api/v1",),
                models=("qwen/qwen3-coder",),
                # Everybody may read its list of models.
                key_path="/key",
            ),
            Vendor(
                provider="modelscope",
                title="ModelScope",
                base_urls=("https://api-inference.modelscope.cn/v1",),
                models=("Qwen/Qwen3-8B",),
            ),
            Vendor(provider="vllm", title="your own vLLM", local_url="http://127.0.0.1:8000/v1"),
            Vendor(
                provider="sglang", title="your own SGLang", local_url="http://127.0.0.1:30000/v1"
            ),
            Vendor(
                provider="ollama", title="your own Ollama", local_url="http://127.0.0.1:11434/v1"
            ),
            Vendor(
                provider="llama.cpp",
                title="your own llama.cpp",
                local_url="http://127.0.0.1:8080/v1",
            ),
            Vendor(provider="generic", title="another server that speaks Chat Completions"),
        )
    }
)

_BEGINNINGS: Final = tuple(
    (re.compile(pattern), providers)
    for pattern, providers in (
        # https://help.aliyun.com/en/model-studio/token-plan-team-quickstart: of both plans.
        (r"sk-sp-.+", ("coding-plan", "token-plan")),
        (r"sk-or-.+", ("openrouter",)),
        (r"ms-.+", ("modelscope",)),
        # Others write a word between two hyphens: sk-ant-…, sk-proj-….
        (r"sk-[A-Za-z0-9]{16,}", ("dashscope",)),
    )
)

_ALIASES: Final = {
    "qwen": "oauth",
    "qwen-oauth": "oauth",
    "portal": "oauth",
    "model-studio": "dashscope",
    "modelstudio": "dashscope",
    "bailian": "dashscope",
    "alibaba": "dashscope",
    "coding": "coding-plan",
    "llamacpp": "llama.cpp",
    "llama-cpp": "llama.cpp",
    "openai": "generic",
}


def recognise(key: str) -> tuple[str, ...]:
    """The providers, all of one vendor, whose keys look like this; none: it can be anybody's."""
    for beginning, providers in _BEGINNINGS:
        if beginning.fullmatch(key):
            return providers
    return ()


def provider_named(name: str) -> str | None:
    """The provider that a person means, or ``oauth``; None: there is none of that name."""
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    plain = _ALIASES.get(plain, plain)
    return plain if plain == "oauth" or plain in VENDORS else None


def candidates(vendor: Vendor, base_url: str | None) -> tuple[str, ...]:
    """The base URLs to try a key at, and no others."""
    if base_url is None:
        return vendor.base_urls
    url = base_url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/responses")
    ends_in_version = re.search(r"/v\d+(beta)?$", url)
    return (url,) if ends_in_version or not vendor.is_own else (f"{url}/v1", url)


def vendor_at(base_url: str, vendors: Mapping[str, Vendor] = VENDORS) -> Vendor | None:
    """The one whose host this is, or whose usual port; None for a server of whoever it may be."""
    found = vendors.get(profile_for(base_url).name)
    return None if found is None or found.provider == "generic" else found
