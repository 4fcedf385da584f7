import pytest
from mitmproxy.test import taddons

from qwen_mitm.bridge import QwenBridge
from qwen_mitm.hosting import checked_settings, is_own_port, listen_on_loopback
from qwen_mitm.settings import SettingsError, Source
from tests.test_bridge import context as context


@pytest.fixture
def bridge(context: taddons.context) -> QwenBridge:
    addon = QwenBridge()
    context.master.addons.add(addon)
    return addon


@pytest.mark.parametrize(
    ("option", "value"),
    [("ignore_hosts", [r"qwen\.ai"]), ("allow_hosts", [r"^other\.test"])],
)
def test_a_claimed_host_cannot_be_taken_away(
    context: taddons.context, bridge: QwenBridge, option: str, value: list[str]
) -> None:
    context.options.update(**{option: value})
    with pytest.raises(SettingsError, match=option):
        checked_settings([])


def test_a_list_that_has_the_claimed_host_is_fine(
    context: taddons.context, bridge: QwenBridge
) -> None:
    context.options.update(allow_hosts=[r"qwen\.ai", r"other\.test"])
    assert checked_settings([]).hosts == ("portal.qwen.ai",)


def test_remote_programs_need_a_local_key(context: taddons.context, bridge: QwenBridge) -> None:
    context.options.update(qwen_allow_remote=True)
    with pytest.raises(SettingsError, match="qwen_local_key"):
        checked_settings([])
    key = Source("environment", {"local_key": "fake-local-key"})
    assert checked_settings([key]).allow_remote


def test_without_a_server_there_is_nothing_to_listen_on(bridge: QwenBridge) -> None:
    listen_on_loopback(bridge.settings)
    assert not is_own_port("127.0.0.1", 8080)
    assert not is_own_port("plan.test", 443)
