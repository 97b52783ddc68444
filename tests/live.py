"""A whole BrightRun for tests, as its users meet it: a server over real HTTP and a worker, in threads of this process.

In threads, so that starting costs nothing and coverage sees it; tests that kill processes start `brightrun up`.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
import uvicorn

from brightrun.accounts import service, signin
from brightrun.accounts.roles import Role
from brightrun.accounts.tables import LinkPurpose, WorkspaceMember
from brightrun.cli.serve import uvicorn_config
from brightrun.db.roles import DatabaseUrls
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.server import create_app
from brightrun.settings import Settings
from brightrun.storage import open_store


@dataclass
class Member:
    """Someone in a workspace, with a token for scripts and a client that sends it."""

    user_id: UUID
    workspace_id: UUID
    email: str
    token: str
    client: httpx2.Client = field(repr=False)


class Live:
    """url: where it serves. settings, secret: what it runs on."""

    def __init__(self, settings: Settings, secret: bytes, urls: DatabaseUrls, url: str) -> None:
        self.settings = settings
        self.secret = secret
        self.urls = urls
        self.url = url
        self._clients: list[httpx2.Client] = []

    def client(self, token: str | None = None, **options: Any) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        made = httpx2.Client(base_url=self.url, headers=headers, timeout=30, **options)
        self._clients.append(made)
        return made

    def run(self, work: Callable[[Database], Coroutine[Any, Any, Any]]) -> Any:
        """Run `work` on a connection of the application's role, in an event loop of its own."""

        async def main() -> Any:
            database = Database(self.urls.app.render_as_string(hide_password=False), pool_size=1)
            try:
                return await work(database)
            finally:
                await database.dispose()

        # In a thread of its own: the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(main())).result()

    def new_workspace(self, name: str = "Test workspace") -> Member:
        """A new owner in a workspace of their own: how tests on one database keep apart."""

        async def make(database: Database) -> Member:
            email = f"{uuid7().hex}@example.com"
            async with database.transaction() as session:
                user = await signin.create_user(session, email=email, name="Test owner")
                workspace = await signin.create_workspace(session, user.id, name)
                _row, token = await service.create_token(
                    session, user_id=user.id, workspace_id=workspace.id, name="t", scopes=["*"], expires_in_days=1
                )
            return Member(user.id, workspace.id, email, token, self.client(token))

        member: Member = self.run(make)
        return member

    def new_member(self, workspace_id: UUID, role: Role, *, scopes: list[str] | None = None) -> Member:
        """Someone else in an existing workspace."""

        async def make(database: Database) -> Member:
            from brightrun.db.session import assume

            email = f"{uuid7().hex}@example.com"
            async with database.transaction() as session:
                user = await signin.create_user(session, email=email, name=f"Test {role.value}")
                await assume(session, user_id=user.id, workspace_id=workspace_id)
                session.add(WorkspaceMember(workspace_id=workspace_id, user_id=user.id, role=role))
                await session.flush()
                _row, token = await service.create_token(
                    session,
                    user_id=user.id,
                    workspace_id=workspace_id,
                    name="t",
                    scopes=scopes or ["*"],
                    expires_in_days=1,
                )
            return Member(user.id, workspace_id, email, token, self.client(token))

        member: Member = self.run(make)
        return member

    def signin_link(self, user_id: UUID) -> str:
        async def make(database: Database) -> str:
            async with database.transaction() as session:
                return await signin.make_link(session, user_id, LinkPurpose.SIGN_IN)

        return f"{self.url}/signin-link/{self.run(make)}"

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def live_server(urls: DatabaseUrls, settings: Settings, secret: bytes, *, worker: bool = True) -> Iterator[Live]:
    """Serve on a free port until the block ends. settings.data holds the objects."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = open_store(settings, public_url=url, secret=secret)
    stop: list[Callable[[], None]] = []
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def start(body: Callable[[threading.Event, list[Callable[[], None]]], Coroutine[Any, Any, None]]) -> None:
        ready = threading.Event()

        def run() -> None:
            try:
                asyncio.run(body(ready, stop))
            except BaseException as error:
                failures.append(error)
                ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)
        assert ready.wait(60), "did not start in a minute"
        if failures:
            raise failures[0]

    async def serve(ready: threading.Event, stop: list[Callable[[], None]]) -> None:
        database = Database(urls.app.render_as_string(hide_password=False), pool_size=8)
        platform = Platform(settings=settings, secret=secret, db=database, store=store, public_url=url)
        app = create_app(platform)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                await app.state.hub.listening()
                ready.set()

        server = Server(uvicorn_config(app, settings.model_copy(update={"graceful_shutdown_s": 2})))
        loop = asyncio.get_running_loop()

        def ask() -> None:
            async def close() -> None:
                await app.state.hub.close()
                server.should_exit = True

            asyncio.run_coroutine_threadsafe(close(), loop)

        stop.append(ask)
        await server.serve(sockets=[listener])
        await database.dispose()

    async def work(ready: threading.Event, stop: list[Callable[[], None]]) -> None:
        from brightrun.cli.processes import run_worker_process

        database = Database(urls.worker.render_as_string(hide_password=False), pool_size=8)
        platform = Platform(settings=settings, secret=secret, db=database, store=store, public_url=url)
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        ready.set()
        await run_worker_process(platform, stopping, leave_trainers=lambda: False)
        await database.dispose()

    live = Live(settings, secret, urls, url)
    try:
        start(serve)
        if worker:
            start(work)
        yield live
    finally:
        live.close()
        for ask in stop:
            ask()
        for thread in threads:
            thread.join(60)
        if failures:
            raise failures[0]
