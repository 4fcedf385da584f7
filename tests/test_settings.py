import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qwen_mitm.settings import (
    Origin,
    Settings,
    SettingsError,
    Source,
    ambient_sources,
    declare_options,
    env_name,
    from_json,
    merge,
    unknown_keys,
)


def write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def test_the_project_file_wins_over_the_users_and_the_environment_over_both(tmp_path: Path) -> None:
    user, project = tmp_path / "user", tmp_path / "project"
    write(user / "opencode/qwen.json", {"refresh_window_seconds": 1, "base_url": "https://u.test"})
    write(project / ".opencode/qwen.json", {"base_url": "https://p.test", "quiet_mode": True})
    env = {"XDG_CONFIG_HOME": str(user), "QWEN_QUIET_MODE": "false"}

    settings = merge(ambient_sources(env, project))

    assert settings.refresh_window_seconds == 1
    assert settings.base_url == "https://p.test"
    assert settings.quiet_mode is False


@pytest.mark.parametrize(
    ("field", "variable"),
    [
        ("base_url", "QWEN_API_BASE_URL"),
        ("client_id", "QWEN_OAUTH_CLIENT_ID"),
        ("oauth_base_url", "QWEN_OAUTH_BASE_URL"),
        ("rotation_strategy", "QWEN_ROTATION_STRATEGY"),
        ("proactive_refresh", "QWEN_PROACTIVE_REFRESH"),
        ("refresh_window_seconds", "QWEN_REFRESH_WINDOW_SECONDS"),
        ("max_rate_limit_wait_seconds", "QWEN_MAX_RATE_LIMIT_WAIT_SECONDS"),
        ("quiet_mode", "QWEN_QUIET_MODE"),
    ],
)
def test_environment_variables_have_the_names_of_the_plugin(field: str, variable: str) -> None:
    assert env_name(field) == variable


def test_a_bad_value_is_refused_with_its_option_and_source() -> None:
    with pytest.raises(SettingsError) as caught:
        merge([Source("environment", {"refresh_window_seconds": "soon"})])
    assert "qwen_refresh_window_seconds (QWEN_REFRESH_WINDOW_SECONDS)" in str(caught.value)
    assert "from environment" in str(caught.value)


def test_a_bad_local_key_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        merge([Source("environment", {"local_key": ["fake-local-key"]})])
    assert "fake-local-key" not in str(caught.value)


def test_broken_json_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "qwen.json"
    path.write_text("{")
    with pytest.raises(SettingsError, match=r"qwen\.json"):
        from_json(path)


def test_unknown_keys_are_named_but_the_plugins_own_are_not(tmp_path: Path) -> None:
    path = tmp_path / "qwen.json"
    write(path, {"base_ulr": "x", "health_score": {}, "quiet_mode": True})
    assert unknown_keys(from_json(path)) == ["base_ulr"]


def test_the_plugins_hybrid_strategy_goes_round() -> None:
    assert merge([Source("file", {"rotation_strategy": "hybrid"})]).rotation_strategy == (
        "round-robin"
    )


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("portal.qwen.ai", Origin("https", "portal.qwen.ai", 443)),
        ("Portal.Qwen.AI.", Origin("https", "portal.qwen.ai", 443)),
        ("127.0.0.1:8443", Origin("https", "127.0.0.1", 8443)),
        ("http://localhost:8000/", Origin("http", "localhost", 8000)),
    ],
)
def test_hosts_are_read_as_origins(text: str, origin: Origin) -> None:
    assert Origin.parse(text) == origin


@pytest.mark.parametrize("text", ["", "ftp://a.test", "https://a.test/v1", "https://u@a.test"])
def test_a_host_that_is_more_than_a_host_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="qwen_hosts"):
        merge([Source("mitmproxy options", {"hosts": [text]})])


def test_every_setting_becomes_a_mitmproxy_option_and_no_secret_its_default() -> None:
    declared: dict[str, Any] = {}

    class Loader:
        def add_option(
            self,
            name: str,
            typespec: Any,
            default: Any,
            help: str,  # noqa: A002
            choices: Sequence[str] | None = None,
        ) -> None:
            assert help
            declared[name] = default

    declare_options(Loader(), merge([Source("environment", {"local_key": "fake-local-key"})]))

    assert set(declared) == {f"qwen_{field}" for field in Settings.model_fields}
    assert declared["qwen_hosts"] == ["portal.qwen.ai"]
    assert declared["qwen_local_key"] == ""


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "http://", "http://h:99999", "http://h:0", "http://u:p@h", "http://h?a=b", "h/v1"],
)
def test_a_base_url_that_cannot_be_used_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="QWEN_API_BASE_URL"):
        merge([Source("environment", {"base_url": url})])


def test_what_surrounds_a_base_url_does_not_matter() -> None:
    assert merge([Source("x", {"base_url": " http://h:8/v1/\r\n"})]).base_url == "http://h:8/v1"
