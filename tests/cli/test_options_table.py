from typer.testing import CliRunner

from qwen_mitm.cli import app, options_table
from qwen_mitm.settings import Settings

run = CliRunner().invoke


def test_every_setting_has_a_row_in_the_order_of_its_declaration() -> None:
    assert [row.option for row in options_table.rows()] == [
        f"qwen_{field}" for field in Settings.model_fields
    ]


def test_a_row_has_the_environment_variable_the_default_and_the_choices() -> None:
    rows = {row.option: row for row in options_table.rows()}

    assert rows["qwen_base_url"].variable == "QWEN_API_BASE_URL"
    assert rows["qwen_base_url"].default == "https://portal.qwen.ai/v1"
    assert rows["qwen_hosts"].default == "portal.qwen.ai"
    assert rows["qwen_quiet_mode"].default == "false"
    assert rows["qwen_rotation_strategy"].meaning.endswith("round-robin, sequential, sticky.")


def test_the_command_prints_markdown_with_one_line_for_each_option() -> None:
    answer = run(app, ["options", "--markdown"])

    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert len(lines) == len(Settings.model_fields) + 2
    assert all(line.startswith(("| ", "|---")) for line in lines)


def test_the_command_prints_text_for_a_terminal() -> None:
    answer = run(app, ["options"])

    assert answer.exit_code == 0
    assert "qwen_hosts  QWEN_HOSTS  default: portal.qwen.ai\n    Hosts whose" in answer.stdout


def test_without_a_command_the_help_is_shown() -> None:
    answer = run(app, [])

    assert "demo" in answer.output
    assert "options" in answer.output
