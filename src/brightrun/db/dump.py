"""The whole database as one file, and back: pg_dump and pg_restore, the wheel's own.

Both connect as the owner. Row-level security stays on while dumping: the owner's policy lets every row pass, and a
table that somebody forgot to give one would make the dump fail rather than come out empty.
"""

import os
import subprocess
from pathlib import Path

import psycopg
from sqlalchemy import URL

from brightrun.db.embedded.binaries import Binaries
from brightrun.db.roles import DatabaseUrls, ensure_roles, libpq
from brightrun.errors import BrightRunError, ConflictError


class DumpError(BrightRunError):
    """pg_dump or pg_restore failed; the message carries its own words."""

    code = "dump_failed"


def _run(program: str, arguments: list[str], url: URL) -> None:
    binary = Binaries.of_wheel(18).program(program)  # 18 speaks with every older server.
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
        # Not on the command line, where every user of the machine could read it.
        "PGPASSWORD": str(url.password or ""),
    }
    shown = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [binary, f"--dbname={shown}", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise DumpError(f"{program} ended with status {done.returncode}: {last}")


def dump_database(urls: DatabaseUrls, target: Path) -> None:
    """Write everything in the database, at one moment, into `target` (pg_dump's custom format)."""
    _run("pg_dump", ["--format=custom", "--enable-row-security", "--no-owner", f"--file={target}"], urls.owner)


def restore_database(urls: DatabaseUrls, source: Path) -> None:
    """Fill an empty database from a dump, all or nothing. Raises ConflictError when somebody lives there already."""
    with psycopg.connect(libpq(urls.owner), autocommit=True) as connection:
        ensure_roles(connection, urls)
        found = connection.execute("select to_regclass('public.workspaces')").fetchone()
        if found is not None and found[0] is not None:
            lived_in = connection.execute("select 1 from workspaces limit 1").fetchone()
            if lived_in:
                raise ConflictError(
                    "This database has workspaces in it already. Restore into a new data directory (--data), "
                    "or into an empty database"
                )
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    _run("pg_restore", ["--no-owner", "--single-transaction", "--exit-on-error", str(source)], urls.owner)
    with psycopg.connect(libpq(urls.owner), autocommit=True) as connection:
        # Live events are ordered by transaction ids of the cluster that was saved; here they mean nothing.
        connection.execute("truncate events")
