"""`brightrun`: the door for terminals and scripts. Commands import what they need when they run: help is fast."""

import gc
import importlib
import os
import sys

# name → (module, attribute, one line of help). Order is the order of `--help`.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("brightrun.cli.up", "up", "Run everything on this machine: database, server, worker."),
    "demo": ("brightrun.cli.demo", "demo", "Upload, validate, train and prove a small model, end to end."),
    "validate": ("brightrun.cli.validate", "validate", "Check a training file, line by line. No server needed."),
    "convert": ("brightrun.cli.convert", "convert", "Write a training file in another format. No server needed."),
    "split": ("brightrun.cli.split", "split", "Split a file into train and held-out. No server needed."),
    "inspect": ("brightrun.cli.inspect", "inspect", "Show which tokens of a row a model learns. No server needed."),
    "estimate": ("brightrun.cli.estimate", "estimate", "Memory, time and cost of a run, before it. No server needed."),
    "packs": ("brightrun.cli.packs", "app", "Scaffolding of a trade: list, show, export, import and check."),
    "datasets": ("brightrun.cli.datasets", "app", "Upload, list, show, confirm, delete and restore datasets."),
    "generate": ("brightrun.cli.generate", "generate", "Write one conversation, or show what would be sent."),
    "batches": ("brightrun.cli.batches", "app", "Conversations in batches: run a plan, list, pause, resume."),
    "jobs": ("brightrun.cli.jobs", "app", "Start, watch, pause, resume, list and cancel training jobs."),
    "models": ("brightrun.cli.models", "app", "List, show and download trained models."),
    "costs": ("brightrun.cli.costs", "app", "What was spent, and the budget of the month."),
    "providers": ("brightrun.cli.providers", "app", "Keys and terms of the models that write; what they cost."),
    "trainer": ("brightrun.cli.trainer", "app", "Prepare a run directory for `python -m brightrun.trainer`."),
    "replay": ("brightrun.cli.replay", "replay", "Train a finished run again: does the same adapter come out?"),
    "server": ("brightrun.cli.processes", "server", "Run the web server alone."),
    "worker": ("brightrun.cli.processes", "worker", "Run one background worker alone."),
    "migrate": ("brightrun.cli.maintenance", "migrate", "Create or upgrade the database, then leave."),
    "signin-link": ("brightrun.cli.maintenance", "signin_link", "Print a one-time sign-in link."),
    "password-link": ("brightrun.cli.maintenance", "password_link", "Print a link that sets a new password."),
    "workspaces": ("brightrun.cli.workspaces", "app", "List workspaces; how much each may store and train at once."),
    "storage": ("brightrun.cli.storage", "app", "Object storage: the bucket's CORS rule."),
    "backup": ("brightrun.cli.backup", "backup", "Save database and objects into one directory."),
    "restore": ("brightrun.cli.backup", "restore", "Bring a backup back, verified."),
    "doctor": ("brightrun.cli.doctor", "doctor", "Look at this installation and say what is wrong."),
}

DIRECT = frozenset({"validate", "convert", "split", "estimate"})
"""Commands that read their own command line (`main(arguments) -> exit status`): the library behind the others takes
longer to load than a small file takes to check."""


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
        if sys.argv[1:2] and sys.argv[1] in DIRECT:
            command = importlib.import_module(COMMANDS[sys.argv[1]][0])
            # A file makes millions of small objects and no cycles; what was imported need not be looked at each time.
            gc.freeze()
            gc.set_threshold(100_000, 20, 100)
            sys.exit(command.main(sys.argv[2:]))
        from brightrun.cli.group import app

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
