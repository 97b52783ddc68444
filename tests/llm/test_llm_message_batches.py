"""Message batches over real HTTP: made, watched, read in any order, cancelled, found again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest

from brightrun.clock import utcnow
from brightrun.llm import message_batches
from brightrun.llm.calls import Answer, ConnectionBroken, Outcome, ProviderUnusable, RejectedError, TransportError, Via
from brightrun.llm.claude import Claude
from brightrun.llm.message_batches import Told
from brightrun.llm.prices import cost, shipped
from llm.test_llm_clients import ask
from provider_server import KEY, Provider

REQUESTS = [(f"item-{number}", ask(text=f"Write 2 turns about pension number {number}.")) for number in range(12)]


def work(provider: Provider, do: Callable[[Claude], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        claude = Claude(KEY, base_url=provider.url)
        try:
            return await do(claude)
        finally:
            await claude.aclose()

    return asyncio.run(main())


async def until_ended(claude: Claude, told: Told) -> Told:
    async with asyncio.timeout(20):
        while not told.ended:
            assert told.total == len(REQUESTS)
            await asyncio.sleep(0.05)
            told = await message_batches.get(claude, told.id)
    return told


async def everything(claude: Claude) -> dict[str, Any]:
    ended = await until_ended(claude, await message_batches.create(claude, REQUESTS))
    return {name: came async for name, came in message_batches.results(claude, ended.id)}


def test_results_come_in_any_order_at_half_the_price(provider: Provider) -> None:
    came = work(provider, everything)
    names = [name for name, _ in REQUESTS]
    assert sorted(came) == sorted(names)
    assert list(came) != names
    assert all(isinstance(one, Answer) and len(orjson.loads(one.text)["turns"]) == 2 for one in came.values())
    price = shipped().price("claude-sonnet-5-5")
    total = sum(cost(one.usage, price, Via.BATCH) for one in came.values())  # type: ignore[misc]
    assert total == Decimal(provider.stats()["usd"])


def test_every_end_of_an_item_is_told_apart(provider: Provider) -> None:
    provider.reset(
        faults=[{"kind": kind, "contains": f"number {number}."} for number, kind in
                enumerate(("expired", "errored", "overflow", "refusal", "truncated", "500"))]
    )  # fmt: skip
    came = work(provider, everything)
    assert came["item-0"] is None
    assert isinstance(came["item-1"], RejectedError)
    assert came["item-2"].outcome is Outcome.CONTEXT_OVERFLOW
    assert came["item-3"].outcome is Outcome.REFUSAL
    assert came["item-4"].outcome is Outcome.TRUNCATED
    assert isinstance(came["item-5"], TransportError)
    assert came["item-6"].outcome is Outcome.OK


def test_a_batch_just_made_may_be_unknown_for_a_moment_and_has_no_results_before_it_ends(provider: Provider) -> None:
    provider.reset(batch_missing_s=0.3, batch_s=30)

    async def do(claude: Claude) -> None:
        told = await message_batches.create(claude, REQUESTS)
        with pytest.raises(ProviderUnusable) as raised:
            await message_batches.get(claude, told.id)
        assert raised.value.http_status == 404
        async with asyncio.timeout(10):
            while True:
                try:
                    found = await message_batches.get(claude, told.id)
                except ProviderUnusable:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert not found.ended
        with pytest.raises(TransportError, match="no results yet"):
            await anext(message_batches.results(claude, told.id))

    work(provider, do)


def test_a_batch_whose_making_was_not_answered_is_in_the_list(provider: Provider) -> None:
    provider.reset(batch_create_lost=1)

    async def do(claude: Claude) -> list[Told]:
        since = utcnow() - timedelta(seconds=5)
        with pytest.raises(ConnectionBroken):
            await message_batches.create(claude, REQUESTS)
        assert await message_batches.recent(claude, utcnow() + timedelta(minutes=1)) == []
        return await message_batches.recent(claude, since)

    assert [told.total for told in work(provider, do)] == [12]


def test_what_was_not_done_when_a_batch_was_cancelled_is_not_charged(provider: Provider) -> None:
    provider.reset(batch_s=2)

    async def do(claude: Claude) -> list[Any]:
        told = await message_batches.create(claude, REQUESTS)
        await message_batches.cancel(claude, told.id)
        await until_ended(claude, told)
        return [came async for _, came in message_batches.results(claude, told.id)]

    assert work(provider, do) == [None] * 12
    assert provider.stats()["usd"] == "0"
