from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import qwen_mitm.simulator
from qwen_mitm.simulator import Simulator
from qwen_mitm.simulator.authority import MissingExtra

MODULES = sorted(Path(qwen_mitm.simulator.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_other_side_shares_no_code_with_the_translation(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2
            names = [node.module or ""]
        assert not [name for name in names if name.startswith(("mitmproxy", "qwen_mitm"))]


async def test_tls_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(MissingExtra, match=r"qwen-mitm\[demo\]"):
        async with Simulator():
            pass
