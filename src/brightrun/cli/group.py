"""The commands as one typer application. Each is imported when it is asked for, not before."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import brightrun
from brightrun.cli.main import COMMANDS, DIRECT


class _LazyGroup(TyperGroup):
    """Imports a command's module when it is asked for, not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _help = COMMANDS[cmd_name]
        if cmd_name in DIRECT or (len(sys.argv) <= 2 and sys.argv[1:] in ([], ["--help"])):
            return _stub(cmd_name)
        target = getattr(importlib.import_module(module), attribute)
        if isinstance(target, typer.Typer):
            command = get_command(target)
        else:
            single = typer.Typer(add_completion=False)
            single.command(name=cmd_name)(target)
            command = get_command(single)
        command.name = cmd_name
        return command


def _stub(name: str) -> Any:
    """What the list of commands shows of one, without importing it."""
    single = typer.Typer(add_completion=False)

    def nothing() -> None:
        """Replaced below."""

    single.command(name=name, help=COMMANDS[name][2], short_help=COMMANDS[name][2])(nothing)
    command = get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="BrightRun: from what an expert knows to a language model that answers as they would, with proof.",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if version:
        print(brightrun.__version__)
        raise typer.Exit
