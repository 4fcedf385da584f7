"""What each host needs: one profile per family, chosen by the base URL (qwen.md §2.5-§2.9)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal
from urllib.parse import urlsplit

type ThinkingStyle = Literal[
    "enable_thinking", "reasoning_effort", "chat_template_kwargs", "reasoning", "none"
]
type Wire = Literal["chat", "responses"]
"""The API that an upstream is asked by: ``/chat/completions`` or ``/responses``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    name: str
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    thinking: ThinkingStyle = "none"
    """How thinking is switched: ``enable_thinking`` (with ``thinking_budget``, or with the
    ``reasoning_effort`` of the models that have one), ``reasoning_effort``,
    ``chat_template_kwargs``, OpenRouter's ``reasoning`` object, or not at all."""
    reasoning_fields: tuple[str, ...] = ("reasoning_content",)
    """Where a thought of the history goes in an assistant message."""
    preserves_thinking: bool = False
    """Forgets the thoughts of the history unless it gets ``preserve_thinking``."""
    forced_choice_while_thinking: bool = True
    """False: tool_choice ``required`` or a named function is a 400 while the model thinks."""
    heeds_choice: bool = True
    """False: calls tools also for tool_choice ``none``, so that it gets none then."""
    json_arguments: bool = False
    """Arguments in the history that are no JSON object are a 400, for the rest of the session."""
    needs_user_message: bool = False
    """A conversation without a user message is a 400."""
    needs_json_word: bool = False
    """``response_format`` is a 400 unless a system or user message has the word JSON; of some
    models also with a schema (https://github.com/plastic-labs/honcho/issues/663)."""
    cached_system: bool = False
    """The system message is a list that begins with an empty block to be cached; always there."""
    flat_user_text: bool = False
    """User content of several texts and nothing else must be one string."""
    takes_images: bool = True
    takes_files: bool = False
    takes_audio: bool = False
    takes_verbosity: bool = False
    has_other_paths: bool = True
    """Such as a list of models."""
    ignores: tuple[str, ...] = ()
    """Fields of a Chat request that have no effect there."""
    stream_only: bool = False
    """Answers no request that is not streamed."""
    leaks_think_tags: bool = False
    """Thoughts may come in the content, between ``<think>`` and ``</think>`` (qwen.md §2.8)."""
    leaks_tool_calls: bool = False
    """Calls may come as ``<tool_call>`` text in content or thought (qwen.md §2.10, quirk 15)."""
    responses_models: str | None = None
    """Models that it answers on ``/responses`` too, as a pattern; None: it has no such endpoint."""
    item_ids: bool = False
    """Takes items on ``/responses`` only with an id and a status."""
    hosted_tools: frozenset[str] = frozenset()
    """Tools that it runs itself, on ``/responses``."""
    searched_models: str | None = None
    """Models that search the web in Chat when told ``enable_search``, as a pattern."""

    def dialect(self, wire: Wire | None, model: str) -> Dialect:
        """How it is asked for this model by an account that wants this ``wire``."""
        if wire != "responses" or not self.speaks_responses(model):
            return Dialect(self)
        return Dialect(_natively(self), "responses")

    def speaks_responses(self, model: str) -> bool:
        pattern = self.responses_models
        return pattern is not None and re.match(pattern, model) is not None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one host is spoken to."""

    profile: Profile
    wire: Wire = "chat"

    def may_be_forced_to(self, hosted_tool: str) -> bool:
        # Chat has no choice of such a tool.
        return self.wire == "responses" and hosted_tool in self.profile.hosted_tools

    def hosted_tools(self, model: str) -> frozenset[str]:
        """Tools that the host runs itself when it is asked so."""
        if self.wire == "responses":
            return self.profile.hosted_tools
        pattern = self.profile.searched_models
        searches = pattern is not None and re.match(pattern, model) is not None
        return _SEARCH if searches else _NONE


_SEARCH: Final = frozenset({"web_search"})
_NONE: Final[frozenset[str]] = frozenset()


@cache
def _natively(profile: Profile) -> Profile:
    # What hosts say of audio is about Chat.
    return replace(profile, takes_audio=False)


_DASHSCOPE: Final = Profile(
    name="dashscope",
    thinking="enable_thinking",
    preserves_thinking=True,
    forced_choice_while_thinking=False,
    json_arguments=True,
    needs_user_message=True,
    needs_json_word=True,
    takes_audio=True,
)
_PORTAL: Final = replace(
    _DASHSCOPE, name="portal", cached_system=True, flat_user_text=True, takes_audio=False
)
_VLLM: Final = Profile(
    name="vllm",
    thinking="chat_template_kwargs",
    # vLLM renamed the field in 0.12 and reads the new name only; SGLang and older vLLM the old one.
    reasoning_fields=("reasoning_content", "reasoning"),
    takes_audio=True,
    leaks_think_tags=True,
    leaks_tool_calls=True,
)
WEB_CHAT: Final = Profile(
    name="web-chat",
    takes_images=False,
    has_other_paths=False,
    ignores=(
        "temperature",
        "top_p",
        "max_tokens",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
    ),
    stream_only=True,
)
"""chat.qwen.ai, of accounts of the kind ``web_chat`` alone."""
# Whoever runs a server knows what it speaks.
GENERIC: Final = Profile(name="generic", thinking="reasoning_effort", responses_models="")

PROFILES: Final = {
    profile.name: profile
    for profile in (
        _PORTAL,
        replace(
            _DASHSCOPE,
            responses_models=r"qwen3-max|qwen3\.[5-9]|qwen-(plus|flash)|qwen3-coder-(plus|flash)",
            hosted_tools=frozenset({"web_search", "web_extractor", "code_interpreter"}),
            # The coder models and those of other vendors do not search.
            searched_models=r"qwen(-|3-max|3\.[5-9])(?!.*coder)",
        ),
        replace(_DASHSCOPE, name="coding-plan", takes_audio=False),
        replace(_DASHSCOPE, name="token-plan", takes_audio=False, responses_models="qwen"),
        Profile(
            name="openrouter",
            thinking="reasoning",
            reasoning_fields=("reasoning",),
            takes_files=True,
            takes_audio=True,
            takes_verbosity=True,
            responses_models="",
            item_ids=True,
        ),
        Profile(name="modelscope", thinking="enable_thinking"),
        _VLLM,
        replace(_VLLM, name="sglang"),
        Profile(
            name="ollama",
            thinking="reasoning_effort",
            # https://docs.ollama.com/api/openai-compatibility
            heeds_choice=False,
            reasoning_fields=("reasoning",),
            leaks_tool_calls=True,
        ),
        Profile(
            name="llama.cpp",
            thinking="chat_template_kwargs",
            leaks_think_tags=True,
            leaks_tool_calls=True,
        ),
        GENERIC,
    )
}
"""By name; ``provider`` of an account is one of these."""

# The first match counts: Coding Plan and Token Plan live under the domains of DashScope.
_HOSTS: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"portal\.qwen\.ai", "portal"),
        (r"coding(-intl)?\.dashscope\.aliyuncs\.com", "coding-plan"),
        (r"token-plan\..+\.maas\.aliyuncs\.com", "token-plan"),
        (r"([a-z0-9-]+\.)*dashscope(-[a-z0-9]+)*\.aliyuncs\.com", "dashscope"),
        (r".+\.maas\.aliyuncs\.com", "dashscope"),
        (r"(.+\.)?(alibaba-inc|aliyun-inc|alicloudapi)\.com", "dashscope"),
        (r"(.+\.)?openrouter\.ai", "openrouter"),
        (r"api-inference\.modelscope\.(cn|ai)", "modelscope"),
    )
)
# Where these servers listen unless told otherwise.
_PORTS: Final = {11434: "ollama", 30000: "sglang", 8000: "vllm"}


def profile_for(base_url: str, provider: str | None = None) -> Profile:
    """The named provider, else what the host is known for, else ``generic``.

    An unknown provider is a ``ValueError`` that names the known ones.
    """
    if provider is not None:
        try:
            return PROFILES[provider]
        except KeyError:
            known = ", ".join(PROFILES)
            message = f"unknown provider {provider!r}; the known ones are {known}"
            raise ValueError(message) from None
    url = urlsplit(base_url if "://" in base_url else f"https://{base_url}")
    for pattern, name in _HOSTS:
        if pattern.fullmatch(url.hostname or ""):
            return PROFILES[name]
    return PROFILES[_PORTS.get(url.port or 0, "generic")]
