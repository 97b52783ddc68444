"""`brightrun doctor`: look at this installation and say, line by line, what is well and what is not, and what to do."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import psycopg
import typer

import brightrun
from brightrun.cli.remote import JsonOption, show
from brightrun.cli.runtime import DataOption, database_or_none, installation, settings_with, start_logging
from brightrun.db.migrate import current_revision, head_revision
from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.errors import BrightRunError
from brightrun.platform import load_secret
from brightrun.settings import GIB, Settings
from brightrun.storage import Bucket, open_store

Verdict = Literal["ok", "warning", "problem"]
_MARKS: dict[str, str] = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}


@dataclass(frozen=True)
class Finding:
    """advice: what to do; empty when all is well."""

    what: str
    verdict: Verdict
    message: str
    advice: str = ""


def doctor(
    data: DataOption = None,
    as_json: JsonOption = False,
    offline: Annotated[bool, typer.Option(help="Do not start or join the database.")] = False,
) -> None:
    """Look at this installation and say what is wrong. Exit 1 when something is."""
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "error"}), "doctor")
    findings = [finding for check in _CHECKS for finding in _safely(check, settings)]
    if not offline:
        findings += _safely(_database, settings)
    problems = sum(finding.verdict == "problem" for finding in findings)

    def text() -> None:
        for finding in findings:
            print(f"{_MARKS[finding.verdict]} {finding.what}: {finding.message}")
            if finding.advice:
                print(f"           {finding.advice}")
        print("\nnothing is wrong" if not problems else f"\n{problems} problem(s)")

    show([finding.__dict__ for finding in findings], as_json=as_json, text=text)
    if problems:
        raise typer.Exit(1)


def _safely(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    """A check that fails is a finding, not the end of the examination."""
    try:
        return list(check(settings))
    except (BrightRunError, OSError, psycopg.Error) as error:
        name = check.__name__.strip("_").replace("_", " ")
        return [Finding(name, "problem", str(error).strip(), "Mend this first; other checks may depend on it.")]


def _system(_settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "system",
        "ok",
        f"BrightRun {brightrun.__version__}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores",
    )


def _data_directory(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if not data.exists():
        yield Finding("data directory", "warning", f"{data} does not exist yet", "`brightrun up` makes it.")
        return
    if not os.access(data, os.W_OK | os.X_OK):
        yield Finding(
            "data directory", "problem", f"{data} is not writable", "Give this user the right to write there."
        )
    free = shutil.disk_usage(data).free
    least = settings.min_free_disk_bytes
    message = f"{data}, {free / GIB:.1f} GiB free"
    if free < least:
        yield Finding(
            "data directory", "problem", message, f"Uploads are refused below {least / GIB:.2f} GiB: free some."
        )
    elif free < 5 * GIB:
        yield Finding("data directory", "warning", message, "Base models and checkpoints need room.")
    else:
        yield Finding("data directory", "ok", message)
    secret = data / "secret_key"
    if secret.exists() and secret.stat().st_mode & 0o077:
        yield Finding("secret key", "problem", f"{secret} can be read by others", f"chmod 600 {secret}")


def _training_parts(_settings: Settings) -> Iterator[Finding]:
    missing = [
        name for name in ("torch", "transformers", "peft", "safetensors") if importlib.util.find_spec(name) is None
    ]
    if missing:
        yield Finding(
            "training",
            "warning",
            f"not installed: {', '.join(missing)}",
            "pip install 'brightrun[train]' to train here.",
        )
    else:
        yield Finding("training", "ok", "torch, transformers and peft are installed")


def _assets(_settings: Settings) -> Iterator[Finding]:
    from brightrun.web.assets import DIST

    if (DIST / "manifest.json").is_file():
        yield Finding("pages", "ok", "assets are built")
    else:
        yield Finding("pages", "problem", "assets are not built", "Run `python hatch_build.py` in the checkout.")


def _object_storage(settings: Settings) -> Iterator[Finding]:
    if settings.storage == "local" and (nothing := database_or_none(settings)):
        yield Finding("object storage", "warning", nothing, "`brightrun up` makes it.")
        return
    store = open_store(settings, public_url="http://localhost", secret=load_secret(settings))
    path = "doctor/check/check/probe.txt"
    store.put_bytes(Bucket.EXPORTS, path, b"brightrun")
    same = store.read_bytes(Bucket.EXPORTS, path) == b"brightrun"
    store.delete(Bucket.EXPORTS, path)
    where = settings.s3_endpoint or "AWS S3" if settings.storage == "s3" else str(settings.data / "objects")
    if same:
        yield Finding("object storage", "ok", f"{settings.storage}, {where}: wrote, read and deleted a probe")
    else:
        yield Finding(
            "object storage", "problem", f"{where} gave back other bytes than were written", "Check the storage."
        )


def _database(settings: Settings) -> Iterator[Finding]:
    if nothing := database_or_none(settings):
        yield Finding("database", "warning", nothing, "`brightrun up` makes one.")
        return
    with installation(settings, migrated=False) as installed:
        urls = installed.urls
        at, head = current_revision(urls), head_revision()
        kind = "embedded PostgreSQL" if installed.embedded is not None else "your PostgreSQL"
        with psycopg.connect(libpq(urls.owner), autocommit=True) as connection:
            row = connection.execute("show server_version").fetchone()
            version = row[0] if row else "unknown"
            yield Finding("database", "ok", f"{kind} {version} answers")
            if at is None:
                yield Finding(
                    "schema", "warning", "the database is empty", "`brightrun up` or `brightrun migrate` fills it."
                )
                return
            if at != head:
                yield Finding(
                    "schema", "warning", f"at revision {at}, this version needs {head}", "`brightrun migrate`"
                )
            else:
                yield Finding("schema", "ok", f"at revision {head}")
            yield from _roles(connection, urls)
            yield from _workers(connection)


def _roles(connection: "psycopg.Connection[tuple[object, ...]]", urls: DatabaseUrls) -> Iterator[Finding]:
    for role in (urls.app_role, urls.worker_role):
        row = connection.execute("select rolsuper or rolbypassrls from pg_roles where rolname = %s", [role]).fetchone()
        if row is None:
            yield Finding("roles", "problem", f"the role {role} does not exist", "`brightrun migrate` makes it.")
        elif row[0]:
            yield Finding(
                "roles", "problem", f"{role} bypasses row-level security", f"alter role {role} nosuperuser nobypassrls"
            )
        else:
            yield Finding("roles", "ok", f"{role} is bound by row-level security")


def _workers(connection: "psycopg.Connection[tuple[object, ...]]") -> Iterator[Finding]:
    row = connection.execute(
        "select count(*) filter (where last_heartbeat > now() - interval '1 minute'),"
        " (select count(*) from procrastinate_jobs where status = 'todo') from procrastinate_workers"
    ).fetchone()
    alive, waiting = row if row else (0, 0)
    if alive:
        yield Finding("workers", "ok", f"{alive} alive, {waiting} tasks waiting")
    else:
        yield Finding("workers", "warning", f"none is running, {waiting} tasks waiting", "`brightrun up` runs one.")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _system,
    _data_directory,
    _training_parts,
    _assets,
    _object_storage,
)
