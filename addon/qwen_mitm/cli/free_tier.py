"""What a person has to know whose login works and whose requests do not (qwen.md §2.0)."""

from __future__ import annotations

from urllib.parse import urlsplit


def ended(base_url: str) -> str:
    host = urlsplit(base_url).hostname or base_url
    return (
        f"{host} refuses requests with a login that it has just granted: the free Qwen OAuth tier "
        "ended on 2026-04-15.\n"
        "What works: a key of the Coding Plan, the Token Plan, Model Studio (pay as you go), "
        "OpenRouter or ModelScope, or a server of your own (vLLM, SGLang, Ollama, llama.cpp).\n"
        "Log in with the key: qwen-mitm login --provider coding-plan\n"
        "or one of token-plan, dashscope, openrouter, modelscope, vllm, sglang, ollama, llama.cpp."
    )
