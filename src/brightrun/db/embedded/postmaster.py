"""PostgreSQL's processes: found by what they are, started, stopped, and waited for. A pid file is only ever a hint."""

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from brightrun.db.embedded.binaries import Binaries
from brightrun.db.embedded.errors import EmbeddedPostgresError
from brightrun.db.embedded.home import Home
from brightrun.db.embedded.locks import FileLock, give_to_owner_of

HOST = "127.0.0.1"
_SHM = Path("/dev/shm")  # noqa: S108 -- asked for its size only
_SHM_WANTED = 256 * 1024 * 1024  # Docker's default of 64 MB is what parallel queries overflow
_URGE_AFTER_S = 5.0
_FORCE_AFTER_S = 15.0
_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass
class Postmaster:
    """A running server's first process, where it listens, and our handle on it when we are its parent."""

    process: psutil.Process
    port: int
    socket_dir: Path
    child: "subprocess.Popen[bytes] | None" = None
    parent_pid: int = field(default_factory=os.getpid)

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        """By the process itself; reaps it when it is ours, and counts a zombie that nobody reaps as dead."""
        if self.child is not None and self.parent_pid == os.getpid():
            return self.child.poll() is None
        return _lives(self.process)

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive():
            try:
                self.process.send_signal(number)
            except psutil.NoSuchProcess:
                return


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask `condition` until it holds (True) or the deadline passes (False), at first often, then 4 times a second."""
    deadline, pause = time.monotonic() + timeout_s, 0.005
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
    return True


def find_postmaster(cluster: Path, *, search: bool) -> Postmaster | None:
    """The postmaster that serves `cluster` now. `search` looks at all processes when the pid file does not help."""
    hint = _read_pid_file(cluster)
    if hint is not None and hint[0] > 0:
        try:
            hinted = psutil.Process(hint[0])
        except psutil.NoSuchProcess:
            hinted = None
        if hinted is not None and _is_postmaster(hinted, cluster):
            return _describe(hinted, hint)
    if not search:
        return None
    found = {process.pid: process for process in psutil.process_iter() if _is_postmaster(process, cluster)}
    for process in found.values():
        try:
            if process.ppid() not in found:  # a child looks like its parent until it has set its title
                return _describe(process, hint)
        except psutil.NoSuchProcess:
            continue
    return None


def wait_for_earlier(lock: FileLock, cluster: Path, log: Callable[[str], None]) -> Postmaster | None:
    """What holds the server lock: a postmaster to join, or None once nothing does (and the lock is ours).

    A killed postmaster leaves children that end by themselves, unless they are deep in a query: those are told to
    after 5 s and forced after 15. Their work is lost already, and the shared memory they hold bars a new start.
    """
    began, urged, forced, told = time.monotonic(), False, False, False
    running: Postmaster | None = None

    def settled() -> bool:
        nonlocal running, urged, forced, told
        if lock.try_exclusive():
            return True
        running = find_postmaster(cluster, search=True)
        if running is not None:
            return True
        waited = time.monotonic() - began
        if waited > 1 and not told:
            told = True
            log("waiting for the last processes of an earlier PostgreSQL on this data directory to end")
        if waited > _FORCE_AFTER_S and not forced:
            forced = True
            _signal_children(cluster, signal.SIGKILL)
        elif waited > _URGE_AFTER_S and not urged:
            urged = True
            _signal_children(cluster, signal.SIGQUIT)
        return False

    if not wait_until(settled, 120):
        raise EmbeddedPostgresError(
            f"Processes of an earlier PostgreSQL still hold {lock.path} after two minutes, and are not visible from "
            "here: it probably runs in another container that shares this directory. Stop it there and try again."
        )
    return running


def end_orphans(cluster: Path, log: Callable[[str], None]) -> None:
    """End children of a killed postmaster that did not inherit our lock (it was started by hand)."""
    if find_postmaster(cluster, search=True) is not None:
        return
    log("ending processes of an earlier PostgreSQL that still hold its shared memory")
    for number in (signal.SIGQUIT, signal.SIGKILL):
        _signal_children(cluster, number)
        if wait_until(lambda: not _children(cluster), 10):
            return


def remove_leftovers(cluster: Path, socket_dir: Path) -> None:
    """Delete pid and socket files of a server that is known to be dead.

    PostgreSQL trusts them: an empty one, or one whose pid another process of the account has now, stops it.
    """
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    for leftover in socket_dir.glob(".s.PGSQL.*"):
        leftover.unlink(missing_ok=True)


def spawn(
    home: Home, binaries: Binaries, lock: FileLock, port: int, socket_dir: Path, log: Callable[[str], None]
) -> Postmaster:
    """Start a postmaster that inherits `lock` (held exclusively), in its own session."""
    command: list[str | Path] = [binaries.program("postgres"), "-D", home.cluster, "-p", str(port), "-k", socket_dir]
    command += ["-c", f"listen_addresses={HOST}", "-c", "unix_socket_permissions=0700"]
    if not _shared_memory_suffices():
        log(f"{_SHM} is small or missing: PostgreSQL keeps its dynamic shared memory in files")
        command += ["-c", "dynamic_shared_memory_type=mmap"]
    startup_log = home.control / "startup.log"
    startup_log.unlink(missing_ok=True)
    fd = os.open(startup_log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as output:
        if os.geteuid() == 0:
            give_to_owner_of(home.control, fd)
        child = home.account.popen(command, output=output, pass_fds=[lock.fileno()])
    return Postmaster(psutil.Process(child.pid), port, socket_dir, child)


def terminate(server: Postmaster, lock: FileLock, log: Callable[[str], None]) -> None:
    """Fast shutdown; ends when no process of the server is left, told by the kernel through `lock`."""
    server.signal(signal.SIGINT)
    if not wait_until(lambda: not server.is_alive(), 10):
        log("PostgreSQL is writing its last changes to disk before it stops")
        if not wait_until(lambda: not server.is_alive(), 300):
            log("PostgreSQL did not stop in 5 minutes: stopping it at once; it will recover at the next start")
            server.signal(signal.SIGQUIT)
            if not wait_until(lambda: not server.is_alive(), 30):
                server.signal(signal.SIGKILL)
    if not wait_until(lock.try_exclusive, 30):
        log(f"PostgreSQL stopped, but some process that it started still holds {lock.path}")


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in _DEAD
    except psutil.NoSuchProcess:
        return False


def _works_in(process: psutil.Process, cluster: Path) -> list[str] | None:
    """The command line of a living `postgres` process of the cluster's owner that works in `cluster`, else None."""
    try:
        with process.oneshot():
            if process.name() != "postgres" or process.status() in _DEAD:
                return None
            if process.uids().effective != cluster.stat().st_uid:
                return None
            command = process.cmdline()
            inside = process.cwd() == os.path.realpath(cluster)
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return None  # gone, or another user's: not ours either way
    return command if inside or str(cluster) in command else None


def _is_postmaster(process: psutil.Process, cluster: Path) -> bool:
    command = _works_in(process, cluster)
    if not command or Path(command[0]).name != "postgres":  # children are called "postgres: checkpointer"
        return False
    return not {"--single", "--boot", "--check"} & set(command[1:3])


def _children(cluster: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _works_in(process, cluster) is not None]


def _signal_children(cluster: Path, number: signal.Signals) -> None:
    for process in _children(cluster):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _describe(process: psutil.Process, hint: tuple[int, int, Path] | None) -> Postmaster | None:
    """Where a postmaster listens: its command line says it (ours always), else its pid file (started by hand)."""
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return None
    options = dict(itertools.pairwise(command))
    if "-p" in options and "-k" in options:
        return Postmaster(process, int(options["-p"]), Path(options["-k"]))
    if hint is not None and hint[0] == process.pid:
        return Postmaster(process, hint[1], hint[2])
    return None


def _read_pid_file(cluster: Path) -> tuple[int, int, Path] | None:
    """pid, port and socket directory; None when the file is missing, empty or cut."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(lines[0]), int(lines[3]), Path(lines[4].strip())
    except (FileNotFoundError, ValueError, IndexError):
        return None


def _shared_memory_suffices() -> bool:
    try:
        state = os.statvfs(_SHM)
    except OSError:
        return os.uname().sysname != "Linux"  # elsewhere POSIX shared memory is not a file system
    return state.f_bavail * state.f_frsize >= _SHM_WANTED
