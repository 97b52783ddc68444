"""Bodies on their way let answers go first, and always move on."""

import asyncio
from typing import Any

import pytest

from brightrun.storage.give_way import CountAwaited, GiveWay

pytestmark = pytest.mark.anyio


async def is_waiting(task: "asyncio.Task[None]") -> bool:
    for _round in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_a_body_waits_while_an_answer_is_awaited_and_goes_on_with_the_last_of_them():
    give_way = GiveWay()
    await give_way.pause()  # at once
    give_way.begin()
    give_way.begin()
    body = asyncio.create_task(give_way.pause())
    assert await is_waiting(body)
    give_way.end()
    assert await is_waiting(body)
    give_way.end()
    await body


async def test_answers_that_never_come_hold_nothing_up():
    give_way = GiveWay()
    give_way.begin()
    async with asyncio.timeout(10):
        for _batch in range(3):
            await give_way.pause()


def message(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": 200, "headers": [], "body": b""}


async def nothing(*_: Any) -> Any:
    return {"type": "http.request"}


@pytest.mark.parametrize(("path", "awaited"), [("/datasets", True), ("/storage/v1/object/x", False)])
async def test_a_request_counts_until_its_answer_begins_and_a_body_itself_does_not(path: str, awaited: bool):
    give_way, seen = GiveWay(), []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        seen.append(give_way.awaited)
        await send(message("http.response.start"))
        seen.append(give_way.awaited)
        await send(message("http.response.body"))

    await CountAwaited(app, give_way=give_way, own="/storage/")({"type": "http", "path": path}, nothing, nothing)
    assert seen == [int(awaited), 0]
    assert give_way.awaited == 0


async def test_a_request_that_fails_or_whose_client_leaves_is_awaited_no_longer():
    give_way = GiveWay()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await CountAwaited(app, give_way=give_way, own="/storage/")({"type": "http", "path": "/"}, nothing, nothing)
    assert give_way.awaited == 0
