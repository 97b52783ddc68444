"""What a plan will cost, before anything is sent: an estimate with its parts, and the most it can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from brightrun.generation.prompts import Prompt
from brightrun.llm.calls import Via
from brightrun.llm.prices import Price, expected

_BYTES_A_TOKEN = 3.6
"""Of English prose with today's tokenizers; other languages take more tokens."""
_OUTPUT_TO_START, _OUTPUT_AN_EXCHANGE = 150, 900
"""Tokens. An exchange of the earlier product's files has 2,700 characters, and 60 tokens of emotional context."""
_LOW, _HIGH = Decimal("0.6"), Decimal("1.7")
"""Answers vary more than prompts; the interval covers both and the share of the prompt that the provider caches."""


@dataclass(frozen=True, slots=True)
class Quote:
    """USD of one route; None throughout when the price is unknown. most: every answer as long as it may be."""

    value: Decimal | None
    low: Decimal | None
    high: Decimal | None
    most: Decimal | None


def quote(prompts: Sequence[Prompt], price: Price | None, bounds: Sequence[Decimal | None], via: Via) -> Quote:
    """bounds: the upper bound of each prompt's request on this route."""
    values = [
        expected(price, via, input_tokens=_input_tokens(prompt), output_tokens=output_tokens(prompt))
        for prompt in prompts
    ]
    if any(value is None for value in values):
        return Quote(None, None, None, None)
    total = sum((value for value in values if value is not None), Decimal(0))
    most = sum((bound for bound in bounds if bound is not None), Decimal(0)) if None not in bounds else None
    high = total * _HIGH if most is None else min(total * _HIGH, most)
    return Quote(_cents(total), _cents(total * _LOW), _cents(high), _cents(most) if most is not None else None)


def describe(
    prompts: Sequence[Prompt],
    price: Price | None,
    *,
    whole: tuple[Quote, Quote],
    rest: tuple[Quote, Quote],
    to_send: int,
) -> dict[str, Any]:
    """The quote as it is kept and shown. whole, rest: (now, by the provider's batches), of all and of `to_send`."""
    return {
        "items": len(prompts),
        "to_send": to_send,
        "input_tokens": sum(_input_tokens(prompt) for prompt in prompts),
        "output_tokens": sum(output_tokens(prompt) for prompt in prompts),
        "source": f"estimated: bytes ÷ {_BYTES_A_TOKEN}, {_OUTPUT_AN_EXCHANGE} tokens an exchange",
        "price_as_of": price.as_of if price is not None else None,
        "now": _as_json(whole[0]),
        "batch": _as_json(whole[1]),
        "rest_now": _as_json(rest[0]),
        "rest_batch": _as_json(rest[1]),
        "sentence": sentence(*rest, to_send),
    }


def sentence(now: Quote, later: Quote, to_send: int) -> str:
    if not to_send:
        return "Nothing to send: every conversation of the plan is there already."
    if now.value is None:
        return "The price of this model is unknown: give it in the plan (`prices`), or in your own file of models."
    if later.value is None:
        return f"Now for {usd(now.value)} (between {_between(now)})."
    return f"Now for {usd(now.value)}, by tomorrow for {usd(later.value)}."


def usd(value: Decimal) -> str:
    return f"${value:,.2f}" if value >= Decimal("0.01") or not value else f"${value:.4f}"


def _between(quote: Quote) -> str:
    assert quote.low is not None
    assert quote.high is not None
    return f"{usd(quote.low)} and {usd(quote.high)}"


def _as_json(quote: Quote) -> dict[str, str | None]:
    return {
        name: None if value is None else f"{value:.6f}"
        for name, value in (("usd", quote.value), ("low", quote.low), ("high", quote.high), ("most", quote.most))
    }


def _cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.000001"))


def _input_tokens(prompt: Prompt) -> int:
    return round((len(prompt.system.encode()) + len(prompt.user.encode()) + 1500) / _BYTES_A_TOKEN)


def output_tokens(prompt: Prompt) -> int:
    return min(_OUTPUT_TO_START + _OUTPUT_AN_EXCHANGE * prompt.exchanges, prompt.max_tokens)
