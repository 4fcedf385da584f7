import json
from pathlib import Path

import pytest

from qwen_mitm.cli.doctor.client_files import codex_stanzas, opencode_stanzas, plain_json

URL = "https://portal.qwen.ai/v1"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "https://x.test", // a comment\n "b": [1, 2,], /* and\n another */ }',
        '{"a": "https://x.test", "b": [1, 2]}',
    ],
)
def test_comments_and_last_commas_are_no_part_of_it(text: str) -> None:
    assert json.loads(plain_json(text)) == {"a": "https://x.test", "b": [1, 2]}


def test_nothing_in_a_string_is_taken_for_a_comment() -> None:
    text = '{"a": "// \\" /* , } */"}'
    assert plain_json(text) == text


def test_opencode_reads_its_folder_the_named_file_and_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project" / "below"
    project.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    files = {
        tmp_path / "config" / "opencode" / "opencode.jsonc": "global",
        tmp_path / "named.json": "named",
        tmp_path / "project" / "opencode.json": "project",
        tmp_path / "opencode.json": "outside",
    }
    for path, name in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"provider": {name: {"options": {"baseURL": URL}}}}))
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "OPENCODE_CONFIG": str(list(files)[1])}
    stanzas, problems = opencode_stanzas(env, tmp_path, project)
    assert [stanza.provider for stanza in stanzas] == ["global", "named", "project"]
    assert problems == ()


def test_codex_says_which_provider_is_chosen_and_whether_its_key_is_set(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'model_provider = "b"\n[model_providers.a]\nbase_url = "{URL}"\nenv_key = "A"\n'
        f'[model_providers.b]\nbase_url = "{URL}"\nenv_key = "B"\nwire_api = "chat"\n'
    )
    (a, b), _ = codex_stanzas({"CODEX_HOME": str(tmp_path), "A": "x"}, tmp_path)
    assert (a.is_chosen, a.key_variable, a.speaks) == (False, "", "")
    assert (b.is_chosen, b.key_variable, b.speaks) == (True, "B", "chat")


def test_the_built_in_provider_of_codex_may_lead_here_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'openai_base_url = "{URL}"\n')
    (stanza,), _ = codex_stanzas({"CODEX_HOME": str(tmp_path)}, tmp_path)
    assert (stanza.provider, stanza.base_url, stanza.is_chosen) == ("openai", URL, True)


@pytest.mark.parametrize("text", ["model_providers = 3", "["])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    stanzas, (problem,) = codex_stanzas({"CODEX_HOME": str(tmp_path)}, tmp_path)
    assert stanzas == ()
    assert str(tmp_path / "config.toml") in problem


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    assert codex_stanzas({}, tmp_path) == ((), ())
