"""Runs the ASGI application on uvicorn, under our own signals and on a socket that `brightrun up` may hand down."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from fastapi import FastAPI

from brightrun.cli.http_protocol import BoundedHeaders
from brightrun.cli.processes import LISTEN_FD, READY_FD, Stop, inherited, say_ready
from brightrun.cli.runtime import open_platform, role_url
from brightrun.errors import BrightRunError
from brightrun.logs import get_logger
from brightrun.platform import Platform
from brightrun.server import create_app
from brightrun.settings import Settings

log = get_logger(__name__)


class _Server(uvicorn.Server):
    """Says when it serves, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How every server of ours runs, the tests' included."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedHeaders,
        log_config=None,
        access_log=False,
        server_header=False,
        # uvicorn believes anyone on this machine by default; limits on guessing count by address.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or "",
        timeout_graceful_shutdown=settings.graceful_shutdown_s,
        lifespan="on",
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal, or the parent's death. Exit status 1 when it could not start."""
    stop = Stop()
    ready = inherited(READY_FD)
    listen = inherited(LISTEN_FD)
    sockets = [socket.socket(fileno=listen)] if listen is not None else None
    async with open_platform(settings, role_url(settings, "app"), pool_size=10, name="server") as platform:
        await _prepare_storage(platform)
        app = create_app(platform)
        server = _Server(uvicorn_config(app, settings), on_started=lambda: say_ready(ready))
        serving = asyncio.create_task(server.serve(sockets=sockets))
        waiting = asyncio.create_task(stop.event.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        await app.state.hub.close()  # Before uvicorn waits for open streams.
        server.should_exit = True
        await serving
        waiting.cancel()
    if not server.started:
        raise SystemExit(1)


async def _prepare_storage(platform: Platform) -> None:
    """Create missing buckets. Where that is impossible now, say so and serve: what needs the storage tells it again."""
    try:
        created = await asyncio.to_thread(platform.store.ensure_buckets)
    except BrightRunError as error:
        log.error("object storage is not ready", error=error.message, code=error.code)
        return
    if created:
        log.info("created buckets", buckets=created)
