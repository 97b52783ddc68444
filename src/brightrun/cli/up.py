"""`brightrun up`: everything on one machine, from one command, with nothing installed beforehand.

The command itself only looks after its children: it holds the listening socket (a server that is restarted loses no
connection), owns the membership in the embedded database, and starts server and worker again when they die.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from brightrun.cli.processes import LISTEN_FD, PARENT_FD, READY_FD
from brightrun.cli.runtime import (
    DataOption,
    HostOption,
    Installation,
    PortOption,
    installation,
    open_platform,
    settings_with,
    start_logging,
)
from brightrun.db.embedded import EmbeddedPostgres
from brightrun.errors import ConfigurationError, UnavailableError
from brightrun.logs import get_logger
from brightrun.settings import Settings

log = get_logger(__name__)

DEFAULT_PORT = 8321
RUNNING = "running.json"
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_DATABASE_WATCH_S = 2.0
_STEADY_S = 30.0
"""A child that has run this long is healthy: its next death starts the waiting anew."""
_SERVER_STOP_S = 15.0
_WORKER_STOP_S = 120.0
"""Longer: a worker that stops lets its trainers write a checkpoint first."""


def up(
    data: DataOption = None,
    host: HostOption = None,
    port: PortOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line {url, signin_url, api_token} when ready.")
    ] = False,
) -> None:
    """Run everything on this machine: database, server, worker. Stops cleanly on Ctrl-C."""
    changes = {"host": host} if host is not None else {}
    settings = settings_with(data, **changes)
    start_logging(settings, "up")
    settings.data.mkdir(parents=True, exist_ok=True)
    listener = _listen(settings.host, port if port is not None else settings.port, chosen=port is not None)
    bound_host, bound_port = listener.getsockname()[:2]
    settings = settings.model_copy(
        update={
            "port": bound_port,
            "public_url": (settings.public_url or _url(bound_host, bound_port)).rstrip("/"),
        }
    )
    signals = _Signals()
    try:
        with installation(settings, say=log.info) as installed:
            asyncio.run(_run(settings, installed, listener, signals, as_json=as_json))
    except _StoppedEarlyError:
        log.info("stopped before it was ready")


class _StoppedEarlyError(KeyboardInterrupt):
    """Asked to stop while the database starts; what is half started cleans up as for Ctrl-C."""


class _Signals:
    """SIGINT and SIGTERM for the whole life of `up`. The first one stops it, at whatever stage; later ones change
    nothing: the stop is under way, and cutting it short would leave processes behind.
    """

    def __init__(self) -> None:
        self.asked = False
        self.on_stop: Callable[[], object] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked = True
        if self.on_stop is None:
            raise _StoppedEarlyError
        self.on_stop()


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _listen(host: str, port: int, *, chosen: bool) -> socket.socket:
    """A listening socket. A port that nobody asked for by name gives way to a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if chosen or port == 0 else [port, 0]:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
        except OSError as error:
            listener.close()
            problem = error
            continue
        listener.listen(1024)
        return listener
    raise ConfigurationError(
        f"cannot listen on {host} port {port}: {problem.strerror}. Choose another with --port (0 picks a free one)"
    )


@dataclass
class _Child:
    """One child process that is started again when it dies."""

    name: str
    settings: Settings
    environment: dict[str, str]
    stop_s: float
    listen_fd: int | None = None
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, parent_fd: int) -> None:
        self.ready.clear()
        ready_read, ready_write = os.pipe()
        handed = [parent_fd, ready_write, *([self.listen_fd] if self.listen_fd is not None else [])]
        environment = {**self.environment, PARENT_FD: str(parent_fd), READY_FD: str(ready_write)}
        if self.listen_fd is not None:
            environment[LISTEN_FD] = str(self.listen_fd)
        try:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "brightrun",
                self.name,
                env=environment,
                pass_fds=handed,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # Standard output is for the one line of `up`.
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order.
            )
        finally:
            os.close(ready_write)
        loop = asyncio.get_running_loop()
        loop.add_reader(ready_read, self._on_ready, ready_read, loop)

    def _on_ready(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        if os.read(descriptor, 1):
            self.ready.set()
        loop.remove_reader(descriptor)
        os.close(descriptor)

    async def keep_running(self, parent_fd: int) -> None:
        """Start, and start again after a death, until `stop`. Gives up when it cannot even start."""
        deaths = 0
        while not self.stopping:
            started = time.monotonic()
            async with self._starting:
                if self._asked_to_stop():
                    return
                await self.start(parent_fd)
            assert self.process is not None
            code = await self.process.wait()
            if self._asked_to_stop():
                return
            if time.monotonic() - started > _STEADY_S:
                deaths = 0
            deaths += 1
            if not self.ready.is_set() and deaths >= 3:
                raise UnavailableError(f"the {self.name} does not start (exit status {code}); its log is above")
            pause = _BACKOFF_S[min(deaths, len(_BACKOFF_S)) - 1]
            log.warning("child died, starting it again", child=self.name, status=code, pause_s=pause)
            await asyncio.sleep(pause)

    def _asked_to_stop(self) -> bool:
        return self.stopping  # Read anew: it changes while we wait for the process.

    async def stop(self) -> None:
        self.stopping = True
        async with self._starting:  # A child that is just being started would be left behind.
            pass
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(self.stop_s):
                await self.process.wait()
        except TimeoutError:
            log.error("child did not stop in time, killing it", child=self.name, waited_s=self.stop_s)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _child_environment(settings: Settings, **own: str) -> dict[str, str]:
    """The parent's environment without the owner's database URL, with what the child is given."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "BRIGHTRUN_DATABASE_URL", "BRIGHTRUN_APP_DATABASE_URL"}
        and name != "BRIGHTRUN_WORKER_DATABASE_URL"
    }
    environment |= {
        "BRIGHTRUN_DATA": str(settings.data),
        "BRIGHTRUN_HOST": settings.host,
        "BRIGHTRUN_PORT": str(settings.port),
        "BRIGHTRUN_PUBLIC_URL": str(settings.public_url),
    }
    return environment | own


async def _watch_database(server: EmbeddedPostgres) -> None:
    """Start the embedded database again when it was killed; the pools reconnect by themselves."""
    while True:
        await asyncio.sleep(_DATABASE_WATCH_S)
        if not await asyncio.to_thread(server.is_running):
            log.warning("the database has died, starting it again")
            await asyncio.to_thread(server.start)


async def _run(
    settings: Settings, installed: Installation, listener: socket.socket, signals: _Signals, *, as_json: bool
) -> None:
    urls = installed.urls
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals.on_stop = lambda: loop.call_soon_threadsafe(stop.set)
    # Nothing is ever written here: the children read it, and see its end when this process is gone.
    parent_read, parent_write = os.pipe()
    app_url = urls.app.render_as_string(hide_password=False)
    server = _Child(
        "server",
        settings,
        _child_environment(settings, BRIGHTRUN_APP_DATABASE_URL=app_url),
        _SERVER_STOP_S,
        listen_fd=listener.fileno(),
    )
    worker_url = urls.worker.render_as_string(hide_password=False)
    worker = _Child(
        "worker", settings, _child_environment(settings, BRIGHTRUN_WORKER_DATABASE_URL=worker_url), _WORKER_STOP_S
    )
    children = [asyncio.create_task(child.keep_running(parent_read)) for child in (server, worker)]
    if installed.embedded is not None:
        children.append(asyncio.create_task(_watch_database(installed.embedded)))
    stopped = asyncio.create_task(stop.wait())
    announce = asyncio.create_task(_announce(settings, app_url, server, worker, as_json=as_json))
    failure: BaseException | None = None
    pending: set[asyncio.Task[None] | asyncio.Task[bool]] = {*children, stopped, announce}
    while not stop.is_set() and failure is None:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        failure = next((task.exception() for task in done if task.exception() is not None), None)
    for task in (stopped, announce):
        task.cancel()
    await worker.stop()  # First: its trainers save what they have while the server still shows it.
    await server.stop()
    for task in children:
        task.cancel()
    await asyncio.gather(*children, return_exceptions=True)
    listener.close()
    os.close(parent_read)
    os.close(parent_write)
    if failure is not None:
        raise failure


def running_url(data: Path) -> str | None:
    """Where the last `up` on this data directory served; it may have stopped since."""
    try:
        return str(json.loads((data / RUNNING).read_text())["url"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


async def _announce(settings: Settings, app_url: str, server: _Child, worker: _Child, *, as_json: bool) -> None:
    """When all is ready: a new one-time link and a token for a day, replacing the last start's."""
    await server.ready.wait()
    await worker.ready.wait()
    from brightrun.accounts import service, signin
    from brightrun.accounts.tables import LinkPurpose

    async with (
        open_platform(settings, app_url, pool_size=1, name="up") as platform,
        platform.db.transaction() as session,
    ):
        user_id, workspace_id = await service.bootstrap_first_owner(session)
        api_token = await service.replace_up_token(session, user_id, workspace_id)
        link = await signin.make_link(session, user_id, LinkPurpose.SIGN_IN)
    url = str(settings.public_url)
    (settings.data / RUNNING).write_text(json.dumps({"url": url}))
    signin_url = f"{url}/signin-link/{link}"
    if as_json:
        _say(json.dumps({"url": url, "signin_url": signin_url, "api_token": api_token}))
        return
    _say(
        f"\n  BrightRun is ready at {url}\n\n"
        f"  Sign in with this link (it works once):\n  {signin_url}\n\n"
        f"  API token for scripts, 24 h:  {api_token}\n"
        f"  Data directory:  {settings.data}\n"
        "  Ctrl-C stops everything; running training jobs are saved and go on at the next start.\n"
    )


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        log.warning("nobody reads standard output; `brightrun signin-link` makes another link", error=str(error))
