"""What the tests of the queue share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from brightrun.db.session import Database
from brightrun.queue.worker import run_worker
from brightrun.settings import Settings

Answer = TypeVar("Answer")


@dataclass
class QueuePlatform:
    """What the queue asks of the platform."""

    settings: Settings
    db: Database


class Ledger(Protocol):
    """SQL as the owner, committed at once."""

    def __call__(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]: ...


@asynccontextmanager
async def working(
    platform: QueuePlatform, *, concurrency: int = 4, graceful_s: float = 5.0, queues: list[str] | None = None
) -> AsyncIterator[asyncio.Event]:
    """A worker in this process while the block runs; setting the event asks it to stop."""
    stop = asyncio.Event()
    worker = asyncio.create_task(
        run_worker(platform, concurrency=concurrency, stop=stop, queues=queues, graceful_s=graceful_s)
    )
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(worker, 30)


async def eventually(look: Callable[[], Answer], *, within_s: float = 15.0) -> Answer:
    """The first true answer of `look`; fails the test when none came in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        answer = look()
        if answer:
            return answer
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {look} still answers {answer!r}")
        await asyncio.sleep(0.02)


Action = Callable[..., Awaitable[None]]
