import json
import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from qwen_mitm.accounts.model import Account
from qwen_mitm.web_chat.database import database_path
from qwen_mitm.web_chat.on_demand import WebChatOnDemand

KEY = Account(name="key", kind="api_key", api_key=SecretStr("fake-key"))
WEB = Account(name="web", kind="web_chat")
_IMPORTED = """
import json, sys
import qwen_mitm.bridge
print(json.dumps([name for name in sys.modules if name.startswith("qwen_mitm.web_chat.")]))
"""


def environment(folder: Path) -> dict[str, str]:
    home = {"XDG_STATE_HOME": str(folder), "LOCALAPPDATA": str(folder)}
    return {**home, "QWEN_TOKEN": "fake-umidtoken", "QWEN_COOKIES": "acw_tc=fake"}


def test_nothing_is_kept_for_those_without_such_an_account(tmp_path: Path) -> None:
    web_chat = WebChatOnDemand(environment(tmp_path))
    web_chat.begin([KEY])
    web_chat.close()
    assert [*tmp_path.iterdir()] == []


def test_the_environment_is_kept_for_those_who_have_one(tmp_path: Path) -> None:
    env = environment(tmp_path)
    web_chat = WebChatOnDemand(env)
    web_chat.begin([KEY, WEB])
    web_chat.close()
    assert database_path(env).exists()


def test_nothing_is_imported_before_it_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["qwen_mitm.web_chat.on_demand"]
