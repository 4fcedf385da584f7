import pytest

from qwen_mitm.providers import PROFILES, profile_for


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://portal.qwen.ai/v1", "portal"),
        ("portal.qwen.ai", "portal"),
        ("https://PORTAL.qwen.ai", "portal"),
        ("https://coding.dashscope.aliyuncs.com/v1", "coding-plan"),
        ("https://coding-intl.dashscope.aliyuncs.com/v1", "coding-plan"),
        ("https://token-plan.cn-beijing.maas.aliyuncs.com/compatible-mode/v1", "token-plan"),
        ("https://token-plan.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1", "token-plan"),
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://dashscope-us.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://ws-1.cn-beijing.maas.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api-inference.modelscope.cn/v1", "modelscope"),
        ("http://localhost:11434/v1", "ollama"),
        ("http://10.0.0.5:30000/v1", "sglang"),
        ("http://10.0.0.5:8000/v1", "vllm"),
        ("http://[::1]:8000/v1", "vllm"),
        ("http://127.0.0.1:18080/v1", "generic"),
        ("https://llm.example.org/v1", "generic"),
        ("https://portal.qwen.ai.example.org/v1", "generic"),
        ("https://notdashscope.aliyuncs.com.example.org/v1", "generic"),
        ("https://notopenrouter.ai/v1", "generic"),
    ],
)
def test_the_host_decides_the_profile(base_url: str, name: str) -> None:
    assert profile_for(base_url).name == name


def test_a_named_provider_wins_over_the_host() -> None:
    assert profile_for("http://127.0.0.1:18080/v1", "portal") is PROFILES["portal"]


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'qwenn'.*portal, dashscope"):
        profile_for("https://portal.qwen.ai/v1", "qwenn")


def test_hosts_that_refuse_broken_arguments_are_the_ones_of_alibaba() -> None:
    strict = {name for name, profile in PROFILES.items() if profile.json_arguments}

    assert strict == {"portal", "dashscope", "coding-plan", "token-plan"}


def test_only_self_hosted_servers_leave_calls_and_thoughts_in_the_text() -> None:
    calls = {name for name, profile in PROFILES.items() if profile.leaks_tool_calls}
    thoughts = {name for name, profile in PROFILES.items() if profile.leaks_think_tags}

    assert calls == {"vllm", "sglang", "ollama", "llama.cpp"}
    assert thoughts == {"vllm", "sglang", "llama.cpp"}


@pytest.mark.parametrize(
    ("provider", "model", "wire"),
    [
        ("dashscope", "qwen3.7-plus", "responses"),
        ("dashscope", "qwen3-coder-plus", "responses"),
        ("dashscope", "deepseek-v4-flash", "chat"),
        ("token-plan", "qwen3.8-max", "responses"),
        ("token-plan", "glm-5.2", "chat"),
        ("openrouter", "anyone/anything", "responses"),
        ("generic", "m", "responses"),
        ("coding-plan", "qwen3.7-plus", "chat"),
        ("portal", "qwen3-coder-plus", "chat"),
        ("modelscope", "Qwen/Qwen3-8B", "chat"),
    ],
)
def test_responses_are_spoken_where_the_host_has_them_for_the_model(
    provider: str, model: str, wire: str
) -> None:
    assert PROFILES[provider].dialect("responses", model).wire == wire
    assert PROFILES[provider].dialect("chat", model).wire == "chat"
    assert PROFILES[provider].dialect(None, model).wire == "chat"


@pytest.mark.parametrize(
    ("provider", "model", "searches"),
    [
        ("dashscope", "qwen3.7-plus", True),
        ("dashscope", "qwen3-max", True),
        ("dashscope", "qwen-plus", True),
        ("dashscope", "qwen3-coder-plus", False),
        ("dashscope", "kimi-k3", False),
        ("token-plan", "qwen3.7-plus", False),
        ("coding-plan", "qwen3.7-plus", False),
        ("openrouter", "qwen/qwen3-max", False),
    ],
)
def test_the_web_is_searched_in_chat_where_the_host_does(
    provider: str, model: str, searches: bool
) -> None:
    hosted = PROFILES[provider].dialect("chat", model).hosted_tools(model)
    assert hosted == ({"web_search"} if searches else set())
