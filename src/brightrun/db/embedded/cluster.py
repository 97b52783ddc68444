"""A cluster's files: made by initdb, checked for their version, the superuser's password kept beside them."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from brightrun.db.embedded.binaries import Binaries
from brightrun.db.embedded.errors import ClusterLocationError, ClusterVersionError, EmbeddedPostgresError
from brightrun.db.embedded.home import Home, sync_directory, write_private
from brightrun.db.embedded.locks import FileLock

SUPERUSER = "postgres"

# Written to postgresql.conf once: whoever knows PostgreSQL may change them there. Address, port, sockets and shared
# memory are given at every start instead (postmaster.py).
_DEFAULTS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    # Parallel queries and statistics take this before they ask /dev/shm, which is small in containers.
    "min_dynamic_shared_memory": "16MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgres-%Y-%m-%d_%H%M%S.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": "10MB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
_LOGS_KEPT = 5


def make_cluster(home: Home, binaries: Binaries, version: int, lock: FileLock, log: Callable[[str], None]) -> None:
    """Run initdb aside and rename the result into place, so that a cluster is there whole or not at all.

    `lock` is the server lock: initdb inherits it, so that the next start waits should we die now.
    """
    log(f"making a PostgreSQL {version} cluster in {home.cluster}")
    password = secrets.token_urlsafe(32)
    fresh = home.base / "cluster.new"
    password_copy = home.base / "initdb.password"
    shutil.rmtree(fresh, ignore_errors=True)
    password_copy.unlink(missing_ok=True)
    fresh.mkdir(mode=0o700)
    fd = os.open(password_copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, password.encode())
        if home.account.switch:
            os.fchown(fd, home.account.uid, home.account.gid)
            os.chown(fresh, home.account.uid, home.account.gid)
        command: list[str | Path] = [binaries.program("initdb"), "-D", fresh, "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password_copy}", "--encoding=UTF8", "--data-checksums"]
        for name, value in _DEFAULTS.items():
            command += ["-c", f"{name}={value}"]
        # 18 brings its own C.UTF-8, the same everywhere; 16 asks the C library, and not every one has it.
        provider = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version >= 17 else []
        done = home.account.run([*command, "--locale=C.UTF-8", *provider], pass_fds=[lock.fileno()])
        if done.returncode != 0 and "invalid locale" in done.stdout:
            done = home.account.run([*command, "--locale=C", *provider], pass_fds=[lock.fileno()])
        if done.returncode != 0:
            raise EmbeddedPostgresError(_explain_initdb(home, done.stdout))
        write_private(home.password_file, password)  # before the cluster: a cluster without password is of no use
        fresh.rename(home.cluster)
        sync_directory(home.base)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        os.close(fd)
        password_copy.unlink(missing_ok=True)


def _explain_initdb(home: Home, output: str) -> str:
    if "could not look up effective user ID" in output:
        return (
            f"PostgreSQL's initdb refuses a user without a name, and uid {home.account.uid} has none in /etc/passwd. "
            "Add one there (containers: run with a user that the image knows), or set DATABASE_URL."
        )
    end = "\n".join(output.strip().splitlines()[-12:])
    return f"PostgreSQL's initdb failed in {home.base}:\n{end}"


def check_version(cluster: Path, wanted: int) -> None:
    """ClusterVersionError when another major version made `cluster`; ClusterLocationError when it is none."""
    file = cluster / "PG_VERSION"
    try:
        found = file.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        found = ""
    if not found.isdigit():
        raise ClusterLocationError(
            f"{cluster} is not a whole PostgreSQL cluster ({file} is missing or damaged). Restore it from a backup, or "
            "move it away to begin with an empty database."
        )
    if int(found) != wanted:
        hint = (
            f"Set BRIGHTRUN_EMBEDDED_POSTGRES_VERSION={found} to go on with it"
            if int(found) in {16, 18}
            else f"Start it with PostgreSQL {found} once and dump it (pg_dumpall)"
        )
        raise ClusterVersionError(
            f"The database in {cluster} was made by PostgreSQL {found}, and this start asks for {wanted}. {hint}, "
            "or choose another --data; `brightrun backup` and `brightrun restore` carry the data over."
        )


def read_password(home: Home) -> str | None:
    try:
        return home.password_file.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def reset_password(home: Home, binaries: Binaries, lock: FileLock, log: Callable[[str], None]) -> None:
    """Give the superuser a new password while no server runs: the file was lost, the data need not be."""
    log(f"{home.password_file} is missing: setting a new superuser password")
    password = secrets.token_urlsafe(32)  # letters, digits, - and _: needs no quoting
    done = home.account.run(
        [binaries.program("postgres"), "--single", "-D", home.cluster, "-c", "logging_collector=off", "postgres"],
        text=f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n",
        pass_fds=[lock.fileno()],
    )
    if done.returncode != 0 or "ERROR:" in done.stdout:
        end = "\n".join(done.stdout.replace(password, "***").strip().splitlines()[-12:])
        raise EmbeddedPostgresError(f"The superuser's password could not be set in {home.cluster}:\n{end}")
    write_private(home.password_file, password)


def prune_logs(cluster: Path) -> None:
    """Keep the newest log files: with rotation at 10 MB this bounds what they take."""
    for old in _log_files(cluster)[:-_LOGS_KEPT]:
        old.unlink(missing_ok=True)


def log_tail(home: Home, lines: int = 15) -> str:
    """The end of what PostgreSQL said: its start messages, or its newest log file once it writes one."""
    startup = home.control / "startup.log"
    files = [startup] if startup.exists() else []
    # Only a log file of this start: the collector begins it after the last line of the start messages.
    files += [
        file
        for file in _log_files(home.cluster)[-1:]
        if not files or file.stat().st_mtime_ns >= startup.stat().st_mtime_ns
    ]
    said: list[str] = []
    for file in files:
        try:
            with file.open("rb") as handle:
                handle.seek(max(0, file.stat().st_size - 8192))
                text = handle.read().decode(errors="replace")
        except OSError as error:
            said.append(f"({file}: {error.strerror})")
            continue
        said += [line for line in text.splitlines() if "log output to logging collector" not in line][-lines:]
    return "\n".join(said[-lines:])


def _log_files(cluster: Path) -> list[Path]:
    return sorted((cluster / "log").glob("postgres-*.log"))  # their names sort by time
