"""The whole database as one file, and back: pg_dump and pg_restore, the wheel's own.

Both connect as the owner. Row-level security stays on while dumping: the owner's policy lets every row pass, and a
table that somebody forgot to give one would make the dump fail rather than come out empty.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from brightrun.db.embedded.binaries import Binaries
from brightrun.db.roles import DatabaseUrls, ensure_roles, libpq
from brightrun.errors import BrightRunError, ConflictError, UnavailableError

Connection = psycopg.Connection[tuple[object, ...]]

_UNFINISHED = "brightrun_unfinished_restore"
"""A schema that is there while a restore is under way: what it left behind is nobody's, and may go."""


class DumpError(BrightRunError):
    """pg_dump or pg_restore failed; the message carries its own words."""

    code = "dump_failed"


def _command(program: str, url: URL | None, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """(arguments, environment). 18 speaks with every older server."""
    environment = {name: os.environ.get(name, "") for name in ("PATH", "LD_LIBRARY_PATH")}
    to = []
    if url is not None:
        shown = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
        to = [f"--dbname={shown}"]
        # Not on the command line, where every user of the machine could read it.
        environment["PGPASSWORD"] = str(url.password or "")
    return [str(Binaries.of_wheel(18).program(program)), *to, *arguments], environment


def _failed(program: str, status: int, words: str) -> DumpError:
    last = "\n".join(words.strip().splitlines()[-5:])
    return DumpError(f"{program} ended with status {status}: {last}")


def _run(program: str, url: URL, *arguments: str) -> None:
    command, environment = _command(program, url, *arguments)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _failed(program, done.returncode, done.stderr)


def _fill(url: URL, source: Path, server_version: int) -> None:
    """The whole dump in one transaction. server_version: as libpq counts it, 160004."""
    if server_version >= 17_00_00:
        _run("pg_restore", url, "--no-owner", "--single-transaction", "--exit-on-error", str(source))
        return
    # pg_restore 18 begins with a setting that older servers refuse. As a script, without that line, they take it all.
    reading, environment = _command("pg_restore", None, "--no-owner", "--file=-", str(source))
    writing, with_password = _command(
        "psql", url, "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"
    )
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(reading, env=environment, stdout=subprocess.PIPE, stderr=said) as reader,
        subprocess.Popen(writing, env=with_password, stdin=subprocess.PIPE, stderr=said) as writer,
    ):
        assert reader.stdout is not None
        assert writer.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # psql has said why it stopped.
            for line in reader.stdout:
                if line.startswith(b"SET transaction_timeout"):
                    break  # In the preamble, before any row.
                writer.stdin.write(line)
            shutil.copyfileobj(reader.stdout, writer.stdin)
            if reader.wait() != 0:
                writer.kill()  # Half a script must not be committed.
        with contextlib.suppress(BrokenPipeError):
            writer.stdin.close()
        for program, process in (("psql", writer), ("pg_restore", reader)):
            reader.stdout.close()
            if process.wait() != 0:
                said.seek(0)
                raise _failed(program, process.returncode, said.read().decode(errors="replace"))


def dump_database(urls: DatabaseUrls, target: Path) -> None:
    """Write the database, at one moment, into `target` (pg_dump's custom format).

    Without the live events: they are ordered by transaction ids of this very cluster, and only serve open pages.
    """
    arguments = ["--format=custom", "--enable-row-security", "--no-owner", "--exclude-table-data=events"]
    _run("pg_dump", urls.owner, *arguments, f"--file={target}")


def _connect(urls: DatabaseUrls) -> Connection:
    try:
        return psycopg.connect(libpq(urls.owner), autocommit=True, connect_timeout=30)
    except psycopg.OperationalError as error:
        where = urls.owner.render_as_string(hide_password=True)
        raise UnavailableError(f"cannot connect to the database {where}: {error}") from error


def require_empty(urls: DatabaseUrls) -> None:
    """Raises ConflictError when somebody lives in the database. A restore that was cut short is nobody."""
    with _connect(urls) as connection:
        if _exists(connection, "to_regnamespace", _UNFINISHED) or not _exists(
            connection, "to_regclass", "public.workspaces"
        ):
            return
        if connection.execute("select 1 from workspaces limit 1").fetchone():
            raise ConflictError(
                "This database has workspaces in it already. Restore into a new data directory (--data), "
                "or into an empty database"
            )


def _exists(connection: Connection, function: str, name: str) -> bool:
    row = connection.execute(sql.SQL("select {}(%s)").format(sql.Identifier(function)), [name]).fetchone()
    return row is not None and row[0] is not None


def restore_database(urls: DatabaseUrls, source: Path, *, saved_owner: str) -> None:
    """Fill an empty database from a dump, all or nothing; cut short, it can be repeated.

    saved_owner: the owner role of the database that was saved. Its policies become this owner's.
    Raises ConflictError when somebody lives here already.
    """
    require_empty(urls)
    owner = urls.owner.username or ""
    with _connect(urls) as connection:
        version = connection.info.server_version
        ensure_roles(connection, urls)
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(_UNFINISHED)))
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        # The dump's policies name it; a role without login, and only until they name this owner.
        stand_in = not connection.execute("select 1 from pg_roles where rolname = %s", [saved_owner]).fetchone()
        if stand_in:
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(saved_owner)))
    try:
        _fill(urls.owner, source, version)
        with _connect(urls) as connection, connection.transaction():
            if saved_owner != owner:
                _hand_over_policies(connection, saved_owner, owner)
            connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(_UNFINISHED)))
    finally:
        if stand_in:
            with _connect(urls) as connection:
                _drop_stand_in(connection, saved_owner)


def _hand_over_policies(connection: Connection, old: str, new: str) -> None:
    rows = connection.execute(
        "select tablename, policyname from pg_policies where schemaname = 'public' and %s = any(roles)", [old]
    ).fetchall()
    for table, policy in rows:
        connection.execute(
            sql.SQL("alter policy {} on public.{} to {}").format(
                sql.Identifier(str(policy)), sql.Identifier(str(table)), sql.Identifier(new)
            )
        )


def _drop_stand_in(connection: Connection, role: str) -> None:
    """Only where nothing names it (any more): after a failure the next attempt finds it, and uses it."""
    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
        connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
