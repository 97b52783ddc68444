"""Shared by the tests of the embedded PostgreSQL: directories that every account can enter, and other processes."""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from brightrun.db.embedded import EmbeddedPostgres
from brightrun.db.embedded.postmaster import find_postmaster

STAY = "pg.start(); print(pg.pid, flush=True); sys.stdin.readline(); pg.stop(); print('left', flush=True)"


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory like pytest's `tmp_path`, but everyone can enter it; servers left in it are killed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="brt-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        kill_servers(directory)
        shutil.rmtree(directory)


def kill_servers(directory: Path) -> None:
    for cluster in directory.rglob("cluster"):
        left = find_postmaster(cluster, search=True)
        if left is not None:
            left.process.send_signal(signal.SIGQUIT)
            with suppress(psutil.TimeoutExpired):
                left.process.wait(5)


@functools.cache
def _template() -> Path:
    """`<data>` with a PostgreSQL 18 cluster, made once per test process: initdb and its fsyncs take long."""
    data = Path(tempfile.mkdtemp(prefix="brt-template-"))
    data.chmod(0o755)
    with EmbeddedPostgres(data) as postgres:
        cluster = postgres.cluster
    with (cluster / "postgresql.conf").open("a") as conf:
        conf.write("fsync = off\n")

    atexit.register(shutil.rmtree, data, ignore_errors=True)
    return data


def plant(data: Path) -> Path:
    """Make `data` a data directory with a ready cluster, as `EmbeddedPostgres(data)` would, and return it."""
    data.mkdir(parents=True, exist_ok=True)
    template = _template() / "postgres"
    subprocess.run(["cp", "-a", str(template), str(data / "postgres")], check=True)
    (data / "postgres" / "port").unlink(missing_ok=True)  # else parallel tests would all want the same
    return data


def ask(postgres: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(postgres.conninfo()) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None


class Member:
    """Another process with an EmbeddedPostgres named `pg` on `data`; lines go in and out."""

    def __init__(self, data: Path, script: str = STAY) -> None:
        text = "import sys, os, signal, time\nfrom pathlib import Path\n"
        text += "from brightrun.db.embedded import EmbeddedPostgres\n"
        text += "pg = EmbeddedPostgres(Path(sys.argv[1]), log=lambda _: None)\n" + script
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        """Send a line, return what it prints until its end; it must end well."""
        output, _ = self.process.communicate("\n", timeout=120)
        assert self.process.returncode == 0
        return output.strip()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()
