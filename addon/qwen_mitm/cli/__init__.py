"""The command ``qwen-mitm``."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen_mitm import __version__

from . import accounts, config, env, login, options_table, run
from .doctor import doctor

app = typer.Typer(
    help="Lets programs that speak the OpenAI Responses API use Qwen, through mitmproxy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qwen-mitm {__version__}")
        raise typer.Exit()


@app.callback()
def before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, help="Print the version.")
    ] = False,
) -> None: ...


@app.command("demo")
def play_demo(
    web: Annotated[bool, typer.Option("--web", help="Show it in mitmweb too.")] = False,
) -> None:
    """Show the main job on this machine, with no account and no network."""
    # The demo needs packages that the addon itself does not.
    from . import demo

    raise typer.Exit(demo.run(web=web))


@app.command("options")
def list_options(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the README.")
    ] = False,
) -> None:
    """List every option, its environment variable and its default."""
    typer.echo(options_table.markdown() if markdown else options_table.plain())


app.command("login")(login.login)
app.command("doctor")(doctor)
app.add_typer(accounts.app, name="accounts")
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("env")(env.show_environment)
app.command("config")(config.show_stanza)
