"""Ready means that a real connection to this very cluster succeeded. Recovery may take minutes: there is no limit."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from brightrun.db.embedded.cluster import SUPERUSER, log_tail
from brightrun.db.embedded.errors import EmbeddedPostgresError
from brightrun.db.embedded.home import Home
from brightrun.db.embedded.postmaster import HOST, Postmaster, wait_until

_SAY_EVERY_S = 5.0


class ServerGoneError(Exception):
    """The postmaster ended before it accepted a connection; `said` is the end of its log."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def conninfo(port: int, password: str, dbname: str) -> str:
    """libpq's connection string; explicit where PGHOSTADDR, PGSSLMODE and their like would otherwise interfere."""
    return psycopg.conninfo.make_conninfo(
        host=HOST,
        hostaddr=HOST,
        port=port,
        user=SUPERUSER,
        password=password,
        dbname=dbname,
        sslmode="disable",
        gssencmode="disable",
    )


def wait_ready(server: Postmaster, home: Home, password: str, log: Callable[[str], None]) -> None:
    """Return when `server` answers. ServerGoneError: it ended. EmbeddedPostgresError: it refuses us for good."""
    began = said_at = time.monotonic()
    pause, refused, patience_s = 0.02, 0, 2
    while True:
        problem = _try_to_connect(server, home, password, patience_s)
        if problem is None:
            return
        if not server.is_alive():
            raise ServerGoneError(log_tail(home))
        if problem.permanent:
            # Another server may sit on our port while ours is about to fail for it: give it time to say so.
            refused += 1
            if wait_until(lambda: not server.is_alive(), 1.0):
                raise ServerGoneError(log_tail(home))
            if refused >= 3:
                raise EmbeddedPostgresError(problem.text)
        now = time.monotonic()
        if now - said_at >= _SAY_EVERY_S:
            said_at = now
            last = log_tail(home, 1)
            log(f"PostgreSQL is not ready after {now - began:.0f} s and still at work; it says: {last or problem.text}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
        patience_s = min(patience_s + 1, 15)  # short at first: a stranger on our port may accept and say nothing


class _Problem:
    def __init__(self, text: str, *, permanent: bool) -> None:
        self.text = text
        self.permanent = permanent


def _try_to_connect(server: Postmaster, home: Home, password: str, patience_s: int) -> _Problem | None:
    try:
        with psycopg.connect(conninfo(server.port, password, "postgres"), connect_timeout=patience_s) as connection:
            row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    except psycopg.Error as error:
        text = str(error).strip()
        if "password authentication failed" in text:
            return _Problem(
                f"The superuser password in {home.password_file} is not the one of the database in {home.cluster}. "
                "Restore that file; or stop every BrightRun process on this data directory and delete it, and the "
                "next start sets a new one.",
                permanent=True,
            )
        return _Problem(text, permanent=False)
    served = Path(str(row[0]) if row else "")
    if os.path.realpath(served) != os.path.realpath(home.cluster):
        return _Problem(
            f"The server on port {server.port} serves {served}, not {home.cluster}. Stop it and try again.",
            permanent=True,
        )
    return None
