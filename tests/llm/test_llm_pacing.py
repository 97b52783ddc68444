"""Pacing over real HTTP: fast where nothing hinders, patient where the provider asks for it, never a failure for a 429.

How near to the ideal it comes is measured by `benchmarks/generate.py`; here are the rules.
"""

import asyncio
from typing import Any

import pytest

from brightrun.llm.calls import Answer, Bucket, Limits, Message, Request, System, Throttled
from brightrun.llm.claude import Claude
from brightrun.llm.pacing import PacedClient, Pacer
from provider_server import KEY, Provider

SYSTEM = [System("You write conversations. " * 200, "1h")]


def buy(provider: Provider, count: int, most: int, *, cached: bool = False) -> PacedClient:
    """`count` different requests, all at once; the client that sent them."""

    async def main() -> PacedClient:
        client = PacedClient(Claude(KEY, base_url=provider.url), most)
        requests = [
            Request("claude-sonnet-5-5", 500, [Message("user", f"Number {number}")], SYSTEM if cached else ())
            for number in range(count)
        ]
        try:
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*(client.send(request) for request in requests))
        finally:
            await client.aclose()
        assert all(isinstance(answer, Answer) for answer in answers)
        return client

    return asyncio.run(main())


def test_as_many_are_in_flight_as_allowed_and_no_more(provider: Provider) -> None:
    provider.reset(latency_s=0.05, reply_chars=50)
    client = buy(provider, 100, 24)
    assert provider.stats()["peak_in_flight"] == 24
    assert provider.stats()["distinct"] == provider.stats()["admitted"] == 100
    assert client.pacer.in_flight == client.waiting_out == 0


def test_a_prefix_that_can_be_cached_is_written_once(provider: Provider) -> None:
    provider.reset(latency_s=0.05, reply_chars=50)
    buy(provider, 40, 20, cached=True)
    assert float(provider.stats()["usd"]) < 0.05, "forty writes of the prefix cost four times as much"


@pytest.mark.parametrize("headers", [{}, {"limit_told": "burst"}, {"remaining_told": "reply"}])
def test_a_bucket_is_emptied_and_not_overrun(provider: Provider, headers: dict[str, str]) -> None:
    provider.reset(latency_s=0.05, reply_chars=50, rate=100, burst=20, **headers)
    client = buy(provider, 250, 64)
    told = provider.stats()
    assert told["distinct"] == told["admitted"] == 250
    assert told["throttled"] == client.throttled < 125, "without pacing there are several for each request"


@pytest.mark.parametrize("fault", ["429", "529"])
def test_single_refusals_to_answer_now_are_waited_out_by_the_one_and_slow_nobody_else(
    provider: Provider, fault: str
) -> None:
    provider.reset(latency_s=0.02, reply_chars=50, every={fault: 10}, retry_after_s=0.2)
    client = buy(provider, 150, 16)
    assert provider.stats()["distinct"] == 150
    assert client.throttled == 16
    assert client.pacer._allowed == 16, "the number at once was cut for single refusals"


def test_many_refusals_without_headers_lower_the_number_at_once(provider: Provider) -> None:
    provider.reset(latency_s=0.02, reply_chars=50, rate=60, burst=5, rate_headers=False, retry_after_s=0.1)
    client = buy(provider, 80, 32)
    assert provider.stats()["distinct"] == 80
    assert client.pacer._allowed < 32


def test_a_request_that_is_given_up_while_it_waits_takes_no_place(provider: Provider) -> None:
    provider.reset(latency_s=0.3, reply_chars=50)

    async def main() -> None:
        client = PacedClient(Claude(KEY, base_url=provider.url), 1)
        request = Request("claude-sonnet-5-5", 500, [Message("user", "one")])
        first = asyncio.create_task(client.send(request))
        await asyncio.sleep(0)
        waits = asyncio.create_task(client.send(request))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.gather(first, waits, return_exceptions=True)
        assert client.pacer.in_flight == 0
        async with asyncio.timeout(10):
            await client.send(request)
        await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bucket", "rate"),
    [(Bucket(6000, 19, 0.01), 100.0), (Bucket(20, 19, 0.01), 1 / 3), (Bucket(50, 10, 48.0), 50 / 60)],
)
def test_before_a_rate_is_measured_the_slowest_reading_of_the_headers_holds(bucket: Bucket, rate: float) -> None:
    pacer = Pacer(4)
    pacer._levels[0].told(bucket, 0.0, 1.0)
    assert pacer._levels[0].rate == pytest.approx(rate)


def test_an_input_bucket_that_needs_minutes_is_waited_for() -> None:
    """A drained first-tier bucket: 30,000 tokens a minute, a prompt of 25,000."""
    pacer = Pacer(4)
    level = pacer._levels[1]
    level.told(Bucket(30_000, 0, 60.0), 0.0, 0.0)
    level.most = 30_000
    assert 50 <= level.wait(25_000, 0.0) <= 60


def test_a_long_retry_after_is_kept_to_and_not_cut_to_a_minute() -> None:
    async def main() -> Any:
        pacer = Pacer(2)
        ticket = await pacer.admit(Request("m", 1, [Message("user", "x")]))
        return pacer.turned_away(ticket, Throttled("later", retry_after_s=171.0, limits=Limits()))

    assert asyncio.run(main()) == 171.0
