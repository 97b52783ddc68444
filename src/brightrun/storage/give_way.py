"""Pages go first: a body that streams in waits while somebody waits for an answer.

One event loop serves both. Twenty uploads make each of its rounds several milliseconds long, and a page needs a dozen
rounds, one for each question to the database; so uploads leave the loop to it for the moment that a page takes.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_PAUSE_S = 0.05
"""For each batch of a body: with answers always under way an upload still moves a batch (1 MiB) in this time."""


class GiveWay:
    """How many answers are awaited now. Belongs to one event loop."""

    def __init__(self) -> None:
        self.awaited = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def begin(self) -> None:
        self.awaited += 1
        self._quiet.clear()

    def end(self) -> None:
        self.awaited -= 1
        if self.awaited == 0:
            self._quiet.set()

    async def pause(self) -> None:
        """Return when nobody waits for an answer, and after `LONGEST_PAUSE_S` at the latest."""
        if not self._quiet.is_set():
            try:
                async with asyncio.timeout(LONGEST_PAUSE_S):
                    await self._quiet.wait()
            except TimeoutError:
                return


class CountAwaited:
    """ASGI middleware: a request counts from its arrival until its answer begins (a stream of events begins at once).

    own: where the paths begin whose bodies give way.
    """

    def __init__(self, app: ASGIApp, *, give_way: GiveWay, own: str) -> None:
        self._app = app
        self._give_way = give_way
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._own):
            await self._app(scope, receive, send)
            return
        counted = True
        self._give_way.begin()

        def over() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._give_way.end()

        async def send_and_tell(message: Message) -> None:
            await send(message)
            over()

        try:
            await self._app(scope, receive, send_and_tell)
        finally:
            over()
