"""`EmbeddedPostgres`: start or join the server of a data directory; the last one to leave stops it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from brightrun.db.embedded import postmaster as processes
from brightrun.db.embedded.binaries import Binaries
from brightrun.db.embedded.cluster import (
    SUPERUSER,
    check_version,
    make_cluster,
    prune_logs,
    read_password,
    reset_password,
)
from brightrun.db.embedded.errors import EmbeddedPostgresError
from brightrun.db.embedded.home import SYSTEM_DIR, Home, find_home, make_control_directory, write_private
from brightrun.db.embedded.locks import FileLock
from brightrun.db.embedded.postmaster import HOST, Postmaster
from brightrun.db.embedded.ready import ServerGoneError, conninfo, wait_ready
from brightrun.db.embedded.sockets import remove_short_directory, socket_directory
from brightrun.errors import BrightRunError
from brightrun.logs import get_logger

_LAUNCHES = 5  # ports can be taken between the choice and the start; more failures than this have another reason


class EmbeddedPostgres:
    """One process's share in the PostgreSQL of a data directory.

    data: the data directory; files are in `<data>/postgres/`. version: major version, 16 or 18; a directory keeps the
    one it was made with. log: takes sentences about slow or surprising steps (default: our log).
    binaries: directory of PostgreSQL's programs (default: the wheel's). system_dir: where root puts what PostgreSQL's
    account cannot reach in place.

    `start` may be called again after the server died (`is_running` is False): it recovers and joins anew. Threads may
    share an instance. A forked child is not a member; it makes its own instance.
    """

    host: str = HOST
    superuser: str = SUPERUSER

    def __init__(
        self,
        data: Path,
        *,
        version: Literal[16, 18] = 18,
        log: Callable[[str], None] | None = None,
        binaries: Path | None = None,
        system_dir: Path = SYSTEM_DIR,
    ) -> None:
        self.data = Path(data).absolute()
        self.version = version
        self._log = log if log is not None else get_logger(__name__).info
        self._given_binaries = binaries
        self._system_dir = system_dir
        self._mutex = threading.RLock()
        self._membership: FileLock | None = None
        self._home: Home | None = None
        self._server: Postmaster | None = None
        self._password = ""

    # --- the four verbs ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server or join the running one; returns when it answers. Does nothing when it runs already.

        ConfigurationError: the files are misplaced, unreachable, or of another version. EmbeddedPostgresError: the
        server fails, with the end of its log.
        """
        with self._mutex:
            if self._is_member() and self.is_running():
                return
            control = make_control_directory(self.data)
            with self._control_lock(control):
                if not self._is_member():
                    self._membership = FileLock(control / "members.lock")
                    self._membership.shared()
                try:
                    self._home = find_home(control, self._system_dir, self._log)
                    self._server = self._join_or_launch(self._home)
                except BaseException as error:
                    self._leave(control)
                    if isinstance(error, OSError) and not isinstance(error, BrightRunError):
                        raise EmbeddedPostgresError(f"PostgreSQL could not be started in {control}: {error}") from error
                    raise

    def stop(self) -> None:
        """Leave; stops the server when nobody else uses it. Does nothing when not started."""
        with self._mutex:
            if self._membership is None or self._membership.closed:
                return
            control = self._membership.path.parent
            with self._control_lock(control):
                self._leave(control)

    def is_running(self) -> bool:
        """Does the server that `start` started or joined live? Asked of the process, never of a file.

        After `stop`: True while other processes keep it.
        """
        return self._server is not None and self._server.is_alive()

    def conninfo(self, dbname: str = "postgres") -> str:
        """libpq connection string of the superuser over TCP. It contains the password: not for a log."""
        return conninfo(self.port, self._password, dbname)

    # --- where it is -----------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._started().port

    @property
    def socket_dir(self) -> Path:
        return self._started().socket_dir

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._started().pid

    @property
    def password(self) -> str:
        self._started()
        return self._password

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory; its log files are in `log/` below."""
        self._started()
        assert self._home is not None
        return self._home.cluster

    def _is_member(self) -> bool:
        return self._membership is not None and not self._membership.closed

    def _started(self) -> Postmaster:
        if self._server is None:
            raise EmbeddedPostgresError(f"The embedded PostgreSQL of {self.data} is not started: call start() first.")
        return self._server

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- how -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _control_lock(self, control: Path) -> Iterator[None]:
        lock = FileLock(control / "control.lock")
        try:
            lock.exclusive(
                lambda: self._log(
                    f"another process is starting or stopping the PostgreSQL of {self.data}; waiting for it"
                )
            )
            yield
        finally:
            lock.close()

    def _binaries(self, home: Home) -> Binaries:
        source = Binaries(self._given_binaries) if self._given_binaries else Binaries.of_wheel(self.version)
        return source.reachable_by(home.account, self._system_dir, self._log)

    def _join_or_launch(self, home: Home) -> Postmaster:
        said, launched = "", False
        for _ in range(_LAUNCHES):
            lock = FileLock(home.control / "server.lock")
            try:
                if lock.try_exclusive():
                    # Free: nothing of ours lives. Somebody may have started a postmaster by hand, for a repair.
                    server = processes.find_postmaster(home.cluster, search=False)
                else:
                    server = processes.wait_for_earlier(lock, home.cluster, self._log)
                launched = server is None
                if server is None:
                    server = self._launch(home, lock)
                elif (home.cluster / "PG_VERSION").exists():
                    check_version(home.cluster, self.version)
            finally:
                lock.close()  # a postmaster that we started holds its own copy
            password = read_password(home)
            if password is None:
                raise EmbeddedPostgresError(
                    f"PostgreSQL runs, but {home.password_file} is missing. Stop every BrightRun process on this data "
                    "directory; the next start sets a new password."
                )
            try:
                wait_ready(server, home, password, self._log)
            except ServerGoneError as error:
                said = error.said
                if launched:  # else it was about to stop when we joined: start it
                    self._prepare_another_try(home, said)
                continue
            self._password = password
            prune_logs(home.cluster)
            return server
        raise EmbeddedPostgresError(f"PostgreSQL did not start ({_LAUNCHES} tries) in {home.cluster}. It said:\n{said}")

    def _launch(self, home: Home, lock: FileLock) -> Postmaster:
        """Start a postmaster; `lock` is the server lock, held exclusively."""
        binaries = self._binaries(home)
        if not home.cluster.exists():
            make_cluster(home, binaries, self.version, lock, self._log)
        check_version(home.cluster, self.version)
        sockets = socket_directory(home)
        processes.remove_leftovers(home.cluster, sockets)
        if read_password(home) is None:
            reset_password(home, binaries, lock, self._log)
        return processes.spawn(home, binaries, lock, self._choose_port(home), sockets, self._log)

    def _choose_port(self, home: Home) -> int:
        """The port of the last start if it is free, so that saved addresses stay right; else another, kept."""
        file = home.control / "port"
        kept = file.read_text(encoding="ascii", errors="replace").strip() if file.exists() else ""
        if kept.isdigit() and 0 < int(kept) < 65536 and processes.port_is_free(int(kept)):
            return int(kept)
        port = processes.free_port()
        if kept:
            self._log(f"port {kept} is taken by another program: PostgreSQL listens on {port}")
        write_private(file, str(port))
        return port

    def _prepare_another_try(self, home: Home, said: str) -> None:
        """Remove the reason for which a start failed, or raise when it is none that we know."""
        if "could not bind" in said or "could not create any TCP/IP sockets" in said:
            write_private(home.control / "port", str(processes.free_port()))
        elif "pre-existing shared memory block" in said:
            processes.end_orphans(home.cluster, self._log)
        else:
            raise EmbeddedPostgresError(
                f"PostgreSQL ended instead of starting in {home.cluster}. Its last words "
                f"(more in {home.cluster / 'log'} and {home.control / 'startup.log'}):\n{said}"
            )

    def _leave(self, control: Path) -> None:
        """Give up membership, under the control lock. Whoever can make the shared lock exclusive is alone."""
        membership, self._membership = self._membership, None
        if membership is None:
            return
        try:
            if membership.try_exclusive():
                server, self._server = self._server, None
                self._stop_server(control, server)
        finally:
            membership.close()

    def _stop_server(self, control: Path, server: Postmaster | None) -> None:
        lock = FileLock(control / "server.lock")
        try:
            if self._home is None or lock.try_exclusive():
                return  # nothing of ours runs; a postmaster that somebody started by hand is theirs to stop
            if server is None or not server.is_alive():
                server = processes.find_postmaster(self._home.cluster, search=True)
            if server is not None:
                processes.terminate(server, lock, self._log)
                remove_short_directory(self._home)
        except BrightRunError as error:
            self._log(f"while stopping PostgreSQL: {error.message}")
            raise
        finally:
            lock.close()
