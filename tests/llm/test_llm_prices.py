"""Prices: exact, dated, overridable; unknown is never nothing."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.errors import ConfigurationError, InvalidInputError
from brightrun.llm.calls import Message, Provider, Request, System, Usage, Via
from brightrun.llm.prices import catalogue, cost, price_from, shipped, upper_bound
from brightrun.settings import get_settings
from provider_server.billing import charge, load_models

COUNTS = st.integers(0, 300_000)


@given(st.sampled_from([model.id for model in shipped().models if model.price]), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
       st.sampled_from(list(Via)))  # fmt: skip
def test_our_arithmetic_and_the_providers_agree_to_the_last_digit(
    model: str, plain: int, output: int, read: int, five: int, hour: int, via: Via
) -> None:
    theirs = {
        "input_tokens": plain,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
    }
    ours = cost(Usage(plain, output, read, five, hour), shipped().price(model), via)
    assert ours == charge(load_models()[model], theirs, batch=via is Via.BATCH)


def test_the_worked_quote_of_the_price_page() -> None:
    """1,000 conversations, 6k shared prefix, 1.5k of their own, 2k answered, Sonnet 5.5."""
    price = shipped().price("claude-sonnet-5-5")
    uncached, cached = Usage(7500, 2000), Usage(1500, 2000, cache_read_tokens=6000)
    assert [cost(uncached, price, via) * 1000 for via in Via] == [Decimal(35), Decimal("17.5")]  # type: ignore[operator]
    assert [cost(cached, price, via) * 1000 for via in Via] == [Decimal("23.6"), Decimal("11.8")]  # type: ignore[operator]


def test_a_long_prompt_pays_its_band_for_the_whole_request() -> None:
    price = shipped().price("claude-haiku-5-5")
    assert cost(Usage(100_000, 0), price, Via.SYNC) == Decimal("0.01")
    assert cost(Usage(100_000, 0, cache_read_tokens=1), price, Via.SYNC) == Decimal("0.05000005")


@given(st.text(max_size=400), st.text(max_size=400), st.integers(1, 8000), st.sampled_from([None, "5m", "1h"]))
def test_no_request_costs_more_than_its_upper_bound(system: str, user: str, most: int, mark: str | None) -> None:
    request = Request("claude-haiku-5-5", most, [Message("user", user)], [System(system, mark)])  # type: ignore[arg-type]
    price = shipped().price(request.model)
    bound = upper_bound(request, price, Via.SYNC, Provider.ANTHROPIC)
    tokens = len((system + user).encode())  # One a byte: no tokenizer makes more.
    for usage in (Usage(tokens, most), Usage(0, most, cache_write_5m_tokens=tokens if mark == "5m" else 0),
                  Usage(0, most, cache_write_1h_tokens=tokens if mark == "1h" else 0)):  # fmt: skip
        assert cost(usage, price, Via.SYNC) <= bound  # type: ignore[operator]


def test_an_unknown_price_is_unknown() -> None:
    request = Request("claude-mythos-5-2", 100, [Message("user", "x")])
    assert shipped().find("claude-mythos-5-2") is not None
    assert cost(Usage(1, 1), shipped().price("claude-mythos-5-2"), Via.SYNC) is None
    assert upper_bound(request, shipped().price("nobody-knows"), Via.SYNC, Provider.ANTHROPIC) is None


def test_a_users_file_adds_and_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "models.toml"
    mine.write_text(
        'default = "qwen"\n[[models]]\nid = "qwen"\nprovider = "openai"\nprices = [{ input = 0, output = 0 }]\n'
        '[[models]]\nid = "claude-opus-5-5"\nprovider = "anthropic"\nprices = [{ input = 3.5, output = 17.5 }]\n'
    )
    monkeypatch.setenv("BRIGHTRUN_MODELS_FILE", str(mine))
    get_settings.cache_clear()
    try:
        found = catalogue()
        assert found.default == "qwen"
        assert cost(Usage(5, 5), found.price("qwen"), Via.SYNC) == 0  # Said to be free, so it is.
        assert cost(Usage(1_000_000, 0), found.price("claude-opus-5-5"), Via.SYNC) == Decimal("3.5")
        assert found.price("claude-sonnet-5-5") is not None
        mine.write_text('[[models]]\nid = "qwen"\nprices = [{ input = "much", output = 1 }]\n')
        with pytest.raises(ConfigurationError, match=r"qwen.*input is not a number"):
            catalogue()
    finally:
        get_settings.cache_clear()


@pytest.mark.parametrize(
    ("given_price", "said"),
    [({"input": 1}, "`output` is missing"), ({"input": 1, "output": -1}, "no price"), ({"in": 1}, "no rate is called"),
     ([{"input": 1, "output": 1}, {"input": 1, "output": 1}], "every band but the last"), ([], "empty")],
)  # fmt: skip
def test_a_price_that_is_none_is_told_what_is_wrong_with_it(given_price: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        price_from(given_price)  # type: ignore[arg-type]
