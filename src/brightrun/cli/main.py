"""`brightrun`: the door for terminals and scripts. Commands import what they need when they run: help is fast."""

import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import brightrun

# name → (module, attribute, one line of help). Order is the order of `--help`.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("brightrun.cli.up", "up", "Run everything on this machine: database, server, worker."),
    "demo": ("brightrun.cli.demo", "demo", "Upload, validate, train and prove a small model, end to end."),
    "validate": ("brightrun.cli.validate", "validate", "Check a training file, line by line. No server needed."),
    "inspect": ("brightrun.cli.inspect", "inspect", "Show which tokens of a row a model learns. No server needed."),
    "datasets": ("brightrun.cli.datasets", "app", "Upload, list, show, confirm, delete and restore datasets."),
    "jobs": ("brightrun.cli.jobs", "app", "Start, watch, list and cancel training jobs."),
    "models": ("brightrun.cli.models", "app", "List, show and download trained models."),
    "trainer": ("brightrun.cli.trainer", "app", "Prepare a run directory for `python -m brightrun.trainer`."),
    "server": ("brightrun.cli.processes", "server", "Run the web server alone."),
    "worker": ("brightrun.cli.processes", "worker", "Run one background worker alone."),
    "migrate": ("brightrun.cli.maintenance", "migrate", "Create or upgrade the database, then leave."),
    "signin-link": ("brightrun.cli.maintenance", "signin_link", "Print a one-time sign-in link."),
    "password-link": ("brightrun.cli.maintenance", "password_link", "Print a link that sets a new password."),
    "workspaces": ("brightrun.cli.workspaces", "app", "List workspaces; show or set how much each may store."),
    "storage": ("brightrun.cli.storage", "app", "Object storage: the bucket's CORS rule."),
    "backup": ("brightrun.cli.backup", "backup", "Save database and objects into one directory."),
    "restore": ("brightrun.cli.backup", "restore", "Bring a backup back, verified."),
    "doctor": ("brightrun.cli.doctor", "doctor", "Look at this installation and say what is wrong."),
}


class _LazyGroup(TyperGroup):
    """Imports a command's module when it is asked for, not before."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _help = COMMANDS[cmd_name]
        if "--help" not in sys.argv[2:] and len(sys.argv) <= 2 and sys.argv[1:] in ([], ["--help"]):
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


def _open_standard_streams() -> None:
    """A stream that the caller closed becomes /dev/null: the next file opened would take its number, and its output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (a descriptor)


def main() -> None:
    """Entry point: expected failures are one sentence on stderr and exit status 1, without a traceback."""
    _open_standard_streams()
    from brightrun.errors import BrightRunError

    try:
        app()
    except BrokenPipeError:
        # `… | head`: whoever read has seen enough. Nothing more is written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"brightrun: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except BrightRunError as error:
        print(f"brightrun: {error.message}", file=sys.stderr)
        if error.details is not None:
            print(f"  {error.details}", file=sys.stderr)
        sys.exit(1)
