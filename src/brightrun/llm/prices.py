"""Models, what they can and what they cost: a dated file, exact arithmetic, and None where a price is not known."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from brightrun.errors import ConfigurationError, InvalidInputError
from brightrun.llm.calls import Provider, Request, Usage, Via, canonical
from brightrun.settings import get_settings

_MILLION = Decimal(1_000_000)
_RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_MODEL_KEYS = {"id", "aliases", "name", "provider", "released", "retires", "context", "max_output", "cache_floor",
               "batch", "us", "prices"}  # fmt: skip
# What a message costs beyond its text: role and boundary tokens. The providers say no number; a dozen is generous.
_TOKENS_A_MESSAGE = 12


@dataclass(frozen=True, slots=True)
class Band:
    """USD for a million tokens, for prompts of up to `up_to` tokens (None: any length)."""

    up_to: int | None
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """bands: the shortest prompts first; the last has no end. batch, us: factors. as_of: the day of the file."""

    bands: tuple[Band, ...]
    batch: Decimal | None
    us: Decimal
    as_of: str

    def band(self, prompt_tokens: int) -> Band:
        return next(band for band in self.bands if band.up_to is None or prompt_tokens <= band.up_to)


@dataclass(frozen=True, slots=True)
class Model:
    """A line of the file. price: None when it is not known. cache_floor: the shortest prefix that is cached."""

    id: str
    name: str
    provider: Provider
    aliases: tuple[str, ...] = ()
    context: int | None = None
    max_output: int | None = None
    cache_floor: int | None = None
    retires: date | None = None
    price: Price | None = None


@dataclass(frozen=True)
class Catalogue:
    """default: the model that is used when nobody chose one."""

    models: tuple[Model, ...]
    default: str
    as_of: str

    def find(self, name: str) -> Model | None:
        return next((model for model in self.models if name == model.id or name in model.aliases), None)

    def price(self, name: str) -> Price | None:
        model = self.find(name)
        return model.price if model is not None else None


def cost(usage: Usage, price: Price | None, via: Via) -> Decimal | None:
    """USD, exact (a tenth of a billionth and below is kept); None when the price is unknown."""
    if price is None:
        return None
    factor = _factor(price, via)
    if factor is None:
        return None
    if usage.inference_geo == "us":
        factor *= price.us
    return _sum(usage, price.band(usage.prompt_tokens)) * factor


def _sum(usage: Usage, band: Band) -> Decimal:
    parts = (
        usage.input_tokens * band.input
        + usage.output_tokens * band.output
        + usage.cache_read_tokens * band.cache_read
        + usage.cache_write_5m_tokens * band.cache_write_5m
        + usage.cache_write_1h_tokens * band.cache_write_1h
    )
    return parts / _MILLION


def _factor(price: Price, via: Via) -> Decimal | None:
    return Decimal(1) if via is Via.SYNC else price.batch


def upper_bound(request: Request, price: Price | None, via: Via, provider: Provider) -> Decimal | None:
    """USD that sending `request` cannot exceed; None when the price is unknown.

    A token is at least one byte, so the prompt has at most as many tokens as bytes; all of them may be written to the
    cache at its dearer rate; the answer has at most `max_tokens`; the dearest band within reach counts.
    """
    if price is None:
        return None
    factor = _factor(price, via)
    if factor is None:
        return None
    if request.extra.get("inference_geo") == "us":
        factor *= price.us
    messages = len(request.messages) + len(request.system)
    tokens = len(canonical(request, provider)) + _TOKENS_A_MESSAGE * messages
    marks = {block.cache for block in request.system}
    best = Decimal(0)
    for band in _reachable(price, tokens):
        rates = [band.input]
        rates += [band.cache_write_5m] if "5m" in marks else []
        rates += [band.cache_write_1h] if "1h" in marks else []
        best = max(best, (tokens * max(rates) + request.max_tokens * band.output) / _MILLION)
    return best * factor


def _reachable(price: Price, tokens: int) -> list[Band]:
    bands: list[Band] = []
    for band in price.bands:
        bands.append(band)
        if band.up_to is None or tokens <= band.up_to:
            break
    return bands


def expected(
    price: Price | None, via: Via, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> Decimal | None:
    """USD of one request for a quote: `cached_tokens` of its `input_tokens` read from the cache."""
    usage = Usage(input_tokens - cached_tokens, output_tokens, cache_read_tokens=cached_tokens)
    return cost(usage, price, via)


# --- the file --------------------------------------------------------------------------------------------------------


def price_from(
    given: Mapping[str, Any] | list[Mapping[str, Any]], *, batch: Any = None, where: str = "prices"
) -> Price:
    """A price somebody wrote down: one band or several. Cache rates left out are the input's own rate.

    Raises InvalidInputError that names what is wrong with it.
    """
    bands = given if isinstance(given, list) else [given]
    if not bands:
        raise InvalidInputError(f"{where} is empty", code="bad_price")
    made = [_band(band, f"{where}[{position}]") for position, band in enumerate(bands)]
    if made[-1].up_to is not None or any(band.up_to is None for band in made[:-1]):
        raise InvalidInputError(f"{where}: every band but the last has `up_to`", code="bad_price")
    return Price(tuple(made), None if batch is None else _decimal(batch, f"{where}.batch"), Decimal(1), "given")


def _band(given: Any, where: str) -> Band:
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"{where} is not a table of rates", code="bad_price")
    if unknown := sorted(set(given) - {*_RATES, "up_to"}):
        raise InvalidInputError(
            f"{where}: no rate is called {unknown[0]!r}; there are {', '.join(_RATES)}", code="bad_price"
        )
    for name in ("input", "output"):
        if name not in given:
            raise InvalidInputError(f"{where}: `{name}` is missing (USD for a million tokens)", code="bad_price")
    rates = {name: _decimal(given.get(name, given["input"]), f"{where}.{name}") for name in _RATES}
    up_to = given.get("up_to")
    if up_to is not None and (not isinstance(up_to, int) or up_to < 1):
        raise InvalidInputError(f"{where}.up_to is a number of tokens", code="bad_price")
    return Band(up_to, **rates)


def _decimal(value: Any, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise InvalidInputError(f"{where} is not a number", code="bad_price")
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise InvalidInputError(f"{where} is not a number", code="bad_price") from None
    if not number.is_finite() or number < 0 or number >= 1_000_000:
        raise InvalidInputError(f"{where} is no price", code="bad_price")
    return number


def parse(text: str, *, where: str) -> tuple[list[Model], str | None, str]:
    """(models, default, as_of) of a file's text. Raises InvalidInputError naming entry and key."""
    try:
        table = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{where} is not TOML: {error}", code="bad_models_file") from None
    as_of = str(table.get("as_of", "given"))
    return [_model(entry, as_of, where) for entry in table.get("models", [])], table.get("default"), as_of


def _model(entry: Mapping[str, Any], as_of: str, where: str) -> Model:
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"{where}: a model has no `id`", code="bad_models_file")
    where = f"{where}, {name}"
    if unknown := sorted(set(entry) - _MODEL_KEYS):
        raise InvalidInputError(f"{where}: unknown key {unknown[0]!r}", code="bad_models_file")
    try:
        provider = Provider(entry.get("provider", "openai"))
    except ValueError:
        raise InvalidInputError(f"{where}: `provider` is anthropic or openai", code="bad_models_file") from None
    price = None
    if "prices" in entry:
        made = price_from(entry["prices"], batch=entry.get("batch"), where=where)
        price = replace(made, us=_decimal(entry.get("us", 1), f"{where}.us"), as_of=as_of)
    return Model(
        id=name,
        name=str(entry.get("name", name)),
        provider=provider,
        aliases=tuple(entry.get("aliases", ())),
        context=entry.get("context"),
        max_output=entry.get("max_output"),
        cache_floor=entry.get("cache_floor"),
        retires=entry.get("retires"),
        price=price,
    )


@cache
def shipped() -> Catalogue:
    text = resources.files("brightrun.llm").joinpath("models.toml").read_text(encoding="utf-8")
    models, default, as_of = parse(text, where="models.toml")
    if default is None:
        raise ConfigurationError("models.toml names no default model")
    return Catalogue(tuple(models), default, as_of)


@lru_cache(maxsize=8)
def _with(path: Path, _changed: int) -> Catalogue:
    base = shipped()
    try:
        models, default, as_of = parse(path.read_text(encoding="utf-8"), where=str(path))
    except OSError as error:
        raise ConfigurationError(f"BRIGHTRUN_MODELS_FILE: {path} cannot be read: {error.strerror}") from None
    except InvalidInputError as error:
        raise ConfigurationError(f"BRIGHTRUN_MODELS_FILE: {error.message}") from None
    named = {model.id for model in models}
    kept = tuple(model for model in base.models if model.id not in named)
    return Catalogue((*models, *kept), default or base.default, as_of)


def catalogue() -> Catalogue:
    """The shipped models, with those of the user's own file over them. A changed file counts at once.

    Raises ConfigurationError for a file that cannot be read or does not fit.
    """
    path = get_settings().models_file
    if path is None:
        return shipped()
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise ConfigurationError(f"BRIGHTRUN_MODELS_FILE: {path} cannot be read: {error.strerror}") from None
    return _with(path, changed)
