"""Sending as fast as the provider lets us: buckets read from its headers, 429 and 529 waited out, nothing hard-wired.

`PacedClient` wraps a client: its `send` waits for admission, sends, waits out 429 and 529, and raises everything else.

The provider's buckets refill continuously. What is known of one: how much was left when an earlier request was
admitted, how much was sent since, and how fast it refills. That rate is measured (what was left at two admissions, and
what was sent between) rather than believed: a header's limit may be a minute's worth or what the bucket holds.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from brightrun.llm.calls import Answer, Bucket, CallError, ChatClient, Limits, ModelFacts, Provider, Request, Throttled

_RAMP = 16
"""Requests before the first answer has told of the limits; one alone where a prefix can be cached, since an entry of
the provider's cache exists only when the first answer begins: 64 at once would pay for it 64 times."""
_CACHEABLE_BYTES = 2048
_WINDOW = 40
_SHARE = 0.25
"""Only when more than this share of the last answers is 429 are fewer sent at once: single ones say nothing."""
_NO_RETRY_AFTER_S = 1.0
_LONGEST_WAIT_S = 900.0
_OUTPUT_GUESS = 2000.0
_MEASURE_S = 0.15
_LATELY_S = 1.5
_FEW_ANSWERS = 8
_CAUTION = 0.98
"""Of the rate measured: a request on its way is late by a little, and one turned away costs more than it gains."""
_SPARE_SHARE, _SPARE_MOST = 0.25, 8


@dataclass(slots=True)
class _Seen:
    """What a header told: `remaining` after `spent` had been sent in all, at `at`."""

    at: float
    spent: float
    remaining: float


@dataclass
class _Level:
    """Our picture of one bucket. spent: everything sent so far, in its unit; measured: whether its rate is measured."""

    measured: bool
    spent: float = 0.0
    rate: float = 0.0
    last: _Seen | None = None
    lately: deque[_Seen] = field(default_factory=deque)
    most: float = 0.0

    def now(self, at: float) -> float | None:
        """How much is left; None when nothing was told."""
        if self.last is None:
            return None
        refilled = _CAUTION * self.rate * (at - self.last.at)
        return min(self.last.remaining - (self.spent - self.last.spent) + refilled, max(self.most, 1.0))

    def wait(self, amount: float, at: float) -> float:
        """Seconds until `amount` is there; 0 for now."""
        level = self.now(at)
        most = max(self.most, 1.0)
        # A little is left in the bucket: requests that leave evenly arrive unevenly.
        wanted = min(amount + min(_SPARE_SHARE * most, _SPARE_MOST * amount), most)
        if level is None or level >= wanted:
            return 0.0
        return (wanted - level) / self.rate if self.rate > 0 else _NO_RETRY_AFTER_S

    def told(self, bucket: Bucket | None, sent_at: float, spent: float) -> None:
        """A header came: of the request sent at `sent_at`, up to which `spent` was sent."""
        if bucket is None or bucket.remaining is None:
            return
        seen = _Seen(sent_at, spent, float(bucket.remaining))
        self.most = max(self.most, seen.remaining + 1)
        guesses = []
        if bucket.limit:
            guesses.append(bucket.limit / 60)
            if bucket.reset_s and bucket.limit > bucket.remaining:
                guesses.append((bucket.limit - bucket.remaining) / bucket.reset_s)
        if not self.rate and guesses:
            self.rate = min(guesses)
        elif not self.measured and guesses:
            self.rate = guesses[0]
        if self.last is None or seen.at >= self.last.at:
            self.last = seen
        if self.measured:
            self._measure(seen)

    def _measure(self, seen: _Seen) -> None:
        self.lately.append(seen)
        while self.lately and seen.at - self.lately[0].at > _LATELY_S:
            self.lately.popleft()
        first = min(self.lately, key=lambda one: one.at)
        if (elapsed := seen.at - first.at) >= _MEASURE_S:
            found = (seen.remaining - first.remaining + seen.spent - first.spent) / elapsed
            if found > 0:
                # A full bucket overflows: what is measured then is less than what it is.
                share = 0.5 if found > self.rate else 0.1
                self.rate += share * (found - self.rate)

    def empty(self, at: float) -> None:
        """A 429 said that nothing is left."""
        self.last = _Seen(at, self.spent, 0.0)


@dataclass(slots=True)
class _Ticket:
    sent_at: float
    amounts: tuple[float, float, float]
    spent: tuple[float, float, float]


@dataclass
class Pacer:
    """One for all who use the same key and model. most: requests in flight at once."""

    most: int
    in_flight: int = 0
    waiting_out: int = 0
    throttled: int = 0
    """429 and 529 so far."""

    def __post_init__(self) -> None:
        self._levels = (_Level(measured=True), _Level(measured=False), _Level(measured=False))
        self._queue: deque[tuple[asyncio.Future[None], Request, tuple[float, float, float]]] = deque()
        self._allowed = float(self.most)
        self._recent: deque[bool] = deque(maxlen=_WINDOW)
        self._cut_at = 0.0
        self._hold_until = 0.0
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None
        self._durations: deque[float] = deque(maxlen=21)
        self._output = 0.0
        self._ratio = 1.0

    # --- admission ---------------------------------------------------------------------------------------------------

    def _amounts(self, request: Request) -> tuple[float, float, float]:
        size = sum(len(block.text) for block in request.system) + sum(len(one.content) for one in request.messages)
        output = self._output or min(_OUTPUT_GUESS, request.max_tokens)
        return 1.0, max(1.0, size / 4 * self._ratio), output

    async def admit(self, request: Request) -> _Ticket:
        """Wait for a place, and take it."""
        amounts = self._amounts(request)
        if self._queue or self._wait_for(request, amounts) > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (future, request, amounts)
            self._queue.append(entry)
            self._pump()
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._give_back(amounts)
                elif entry in self._queue:
                    self._queue.remove(entry)
                self._pump()
                raise
        else:
            self._take(amounts)
        return _Ticket(time.monotonic(), amounts, (self._levels[0].spent, self._levels[1].spent, self._levels[2].spent))

    def _take(self, amounts: tuple[float, float, float]) -> None:
        self.in_flight += 1
        for level, amount in zip(self._levels, amounts, strict=True):
            level.spent += amount

    def _give_back(self, amounts: tuple[float, float, float]) -> None:
        self.in_flight -= 1
        for level, amount in zip(self._levels, amounts, strict=True):
            level.spent -= amount

    def _wait_for(self, request: Request, amounts: tuple[float, float, float]) -> float:
        """Seconds until `request` may go; 0 for now, infinity for: when another comes back."""
        now = time.monotonic()
        allowed = self._allowed
        if not self._answered:
            cacheable = sum(len(block.text) for block in request.system if block.cache) >= _CACHEABLE_BYTES
            allowed = min(allowed, 1 if cacheable else _RAMP)
        if self.in_flight >= max(1, int(allowed)):
            return float("inf")
        requests = self._levels[0]
        if requests.rate and self._durations and (left := requests.now(now)) is not None and left < requests.most / 2:
            # More on their way than the rate explains: the other side is slow to look, and would see them all at once.
            usual = sorted(self._durations)[len(self._durations) // 2]
            explained = requests.rate * usual + max(2.0, requests.most / 3)
            if len(self._durations) < _FEW_ANSWERS:  # The rate is a guess still, and connections are being opened.
                explained = min(explained, 0.8 * requests.most)
            if self.in_flight >= explained:
                return float("inf")
        waits = [level.wait(amount, now) for level, amount in zip(self._levels, amounts, strict=True)]
        return max(*waits, self._hold_until - now)

    def _pump(self) -> None:
        """Let those go that may, first come first served, and wake up when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            future, request, amounts = self._queue[0]
            if future.done():
                self._queue.popleft()
                continue
            wait = self._wait_for(request, amounts)
            if wait > 0:
                if wait != float("inf"):
                    self._timer = asyncio.get_running_loop().call_later(min(wait, _LONGEST_WAIT_S), self._pump)
                return
            self._queue.popleft()
            self._take(amounts)
            future.set_result(None)

    # --- what came back ----------------------------------------------------------------------------------------------

    def _told(self, ticket: _Ticket, limits: Limits | None) -> None:
        if limits is None:
            return
        told = (limits.requests, limits.input_tokens, limits.output_tokens)
        for level, bucket, spent in zip(self._levels, told, ticket.spent, strict=True):
            level.told(bucket, ticket.sent_at, spent)

    def answered(self, ticket: _Ticket, answer: Answer) -> None:
        self.in_flight -= 1
        self._answered = True
        self._told(ticket, answer.limits)
        self._durations.append(answer.duration_s)
        usage = answer.usage
        fresh = usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens  # Cache reads are free.
        self._levels[1].spent += fresh - ticket.amounts[1]
        self._levels[2].spent += usage.output_tokens - ticket.amounts[2]
        self._output = usage.output_tokens if not self._output else 0.9 * self._output + 0.1 * usage.output_tokens
        self._ratio = max(0.05, 0.9 * self._ratio + 0.1 * self._ratio * fresh / ticket.amounts[1])
        self._recent.append(False)
        if self._allowed < self.most and sum(self._recent) / len(self._recent) < _SHARE / 4:
            self._allowed = min(float(self.most), self._allowed + 2 / self._allowed)
        self._pump()

    def failed(self, ticket: _Ticket, limits: Limits | None) -> None:
        self.in_flight -= 1
        self._answered = True
        self._told(ticket, limits)
        self._pump()

    def turned_away(self, ticket: _Ticket, error: Throttled) -> float:
        """Seconds that this request should wait. The others go on, unless the headers or many 429s say otherwise."""
        now = time.monotonic()
        self.in_flight -= 1
        self.throttled += 1
        for level, amount in zip(self._levels, ticket.amounts, strict=True):
            level.spent -= amount
        wait = min(_LONGEST_WAIT_S, error.retry_after_s if error.retry_after_s is not None else _NO_RETRY_AFTER_S)
        limits = error.limits
        told = (limits.requests, limits.input_tokens, limits.output_tokens) if limits is not None else ()
        dry = False
        for level, bucket in zip(self._levels, told, strict=False):
            if bucket is not None and bucket.remaining is not None:
                level.most = max(level.most, 1.0)
                if bucket.remaining <= 0:
                    level.empty(now)
                    dry = True
        self._recent.append(True)
        if not dry and len(self._recent) >= 8 and sum(self._recent) / len(self._recent) > _SHARE:
            self._hold_until = max(self._hold_until, now + wait)
            if now - self._cut_at > max(wait, 0.5):
                self._cut_at = now
                self._allowed = max(1.0, self._allowed / 2)
                self._recent.clear()
        # An empty bucket paces us by its own refill: waiting the header's whole second would waste it.
        if dry and self._levels[0].rate > 0 and wait <= 2.0:
            wait = min(wait, max(self._levels[0].wait(1.0, now), 0.01))
        self._pump()
        return wait


class PacedClient:
    """A client whose `send` returns an answer or raises what is no matter of waiting.

    waiting_out: requests that wait out a 429 at this moment. They hold no place at the provider: whoever limits how
    many requests are open at once can open as many more.
    """

    def __init__(self, client: ChatClient, most: int) -> None:
        self.client = client
        self.pacer = Pacer(most)
        self.provider: Provider = client.provider

    @property
    def waiting_out(self) -> int:
        return self.pacer.waiting_out

    @property
    def throttled(self) -> int:
        """429 and 529 so far."""
        return self.pacer.throttled

    async def send(self, request: Request) -> Answer:
        """Raises CallError, never Throttled."""
        while True:
            ticket = await self.pacer.admit(request)
            try:
                answer = await self.client.send(request)
            except Throttled as error:
                wait = self.pacer.turned_away(ticket, error)
            except CallError as error:
                self.pacer.failed(ticket, error.limits)
                raise
            except BaseException:
                self.pacer.failed(ticket, None)
                raise
            else:
                self.pacer.answered(ticket, answer)
                return answer
            self.pacer.waiting_out += 1
            try:
                await asyncio.sleep(wait)
            finally:
                self.pacer.waiting_out -= 1

    async def count_tokens(self, request: Request) -> int | None:
        return await self.client.count_tokens(request)

    async def model(self, model: str) -> ModelFacts | None:
        return await self.client.model(model)

    async def models(self) -> list[ModelFacts]:
        return await self.client.models()

    async def aclose(self) -> None:
        await self.client.aclose()
