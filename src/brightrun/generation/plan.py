"""A plan file: which conversations are wanted, of which pack, by which model. Pure: no database, no network.

    {"pack": "financial_planning", "model": "claude-sonnet-5-5", "seed": 7,
     "items": [{"persona": "…", "arc": "…", "topic": "…", "template"?, "replicate"?,
                "source"?: {"text", "title"?, "ref"?}}]}

or `"quotas": {…}` (what `scaffolding.planning.Quotas` takes) instead of `items`. Further keys, all optional: `name`,
`prices` (USD for a million tokens, where the model's price is not known), `max_tokens`, `effort`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec
import orjson

from brightrun.errors import InvalidInputError
from brightrun.llm.prices import Price, price_from
from brightrun.scaffolding.pack import Arc, Pack, Persona, Template, Tier, Topic
from brightrun.scaffolding.planning import MAX_TOTAL, Quotas, quotas_from
from brightrun.scaffolding.planning import plan as draw
from brightrun.scaffolding.selection import NoTemplateError, choose_template

MAX_SOURCE = 400_000
"""Characters of one source text."""
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


class PlanInvalidError(InvalidInputError):
    """A plan that cannot be carried out. `details`: place (`items[3].persona`) → sentences."""

    code = "plan_invalid"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Text that a conversation is written from."""

    text: str
    title: str | None = None
    ref: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One conversation as the file asks for it. values: of the template's own variables."""

    persona: str
    arc: str
    topic: str
    template: str | None = None
    replicate: int | None = None
    tier: str | None = None
    source: Source | None = None
    values: dict[str, str | int | float | bool | list[str]] = msgspec.field(default_factory=dict)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    pack: str
    model: str | None = None
    seed: int = 0
    items: list[Any] | None = None
    quotas: Any = None
    name: str | None = None
    prices: Any = None
    max_tokens: int | None = None
    effort: str | None = None


@dataclass(frozen=True)
class Plan:
    """model: None for the default one. Either `items` or `quotas` is there."""

    pack: str
    model: str | None
    seed: int
    items: tuple[Item, ...] = ()
    quotas: Quotas | None = None
    name: str | None = None
    price: Price | None = None
    prices: Any = None
    max_tokens: int | None = None
    effort: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """Everything but the items, as it was written."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One conversation to write, every part found in the pack. replicate: among equal ones, from 0."""

    persona: Persona
    arc: Arc
    topic: Topic
    template: Template
    tier: Tier
    replicate: int
    source: Source | None
    values: Mapping[str, Any]


def read_plan(raw: bytes | str | Mapping[str, Any]) -> Plan:
    """The plan in a file's bytes, or in a body that is parsed already. Raises PlanInvalidError naming the place."""
    if isinstance(raw, Mapping):
        document: Any = dict(raw)
    else:
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            _wrong("plan", f"is no JSON: {error}")
    try:
        file = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        _wrong("plan", _sentence(error))
    if (file.items is None) == (file.quotas is None):
        _wrong("items", "give either `items` or `quotas`")
    if file.effort is not None and file.effort not in _EFFORTS:
        _wrong("effort", f"is {file.effort!r}; there are {', '.join(_EFFORTS)}")
    if file.max_tokens is not None and not 256 <= file.max_tokens <= 300_000:
        _wrong("max_tokens", "is 256 to 300000")
    if file.name is not None and not 1 <= len(file.name.strip()) <= 255:
        _wrong("name", "has 1 to 255 characters")
    return Plan(
        pack=file.pack,
        model=file.model,
        seed=file.seed,
        items=_items(file.items) if file.items is not None else (),
        quotas=quotas_from(file.quotas) if file.quotas is not None else None,
        name=file.name,
        price=read_price(file.prices, file.model),
        prices=file.prices,
        max_tokens=file.max_tokens,
        effort=file.effort,
        document={key: value for key, value in document.items() if key != "items"},
    )


def read_price(given: Any, model: str | None) -> Price | None:
    """`{"input": 3, "output": 15, …}`, several bands in a list, or either by the model's name; `batch`: a factor."""
    if isinstance(given, Mapping) and model is not None and model in given:
        given = given[model]
    if given is None:
        return None
    batch: Any = "0.5"
    if isinstance(given, Mapping):
        given = {key.removesuffix("_per_mtok"): value for key, value in given.items()}
        batch = given.pop("batch", batch)
    try:
        return price_from(given, batch=batch, where="prices")
    except InvalidInputError as error:
        _wrong("prices", error.message)


def _items(given: Sequence[Any]) -> tuple[Item, ...]:
    if not 1 <= len(given) <= MAX_TOTAL:
        _wrong("items", f"has {len(given)} conversations; 1 to {MAX_TOTAL:,} make a plan")
    try:
        items = msgspec.convert(given, tuple[Item, ...])
    except msgspec.ValidationError:
        for index, one in enumerate(given):
            try:
                msgspec.convert(one, Item)
            except msgspec.ValidationError as error:
                where, _, path = str(error).partition(" - at `$")
                key = path.strip("`").lstrip(".") or _named_key(where)
                _wrong(f"items[{index}]" + (f".{key}" if key else ""), where)
        raise
    for index, item in enumerate(items):
        if item.replicate is not None and not 0 <= item.replicate < MAX_TOTAL:
            _wrong(f"items[{index}].replicate", f"is {item.replicate}; it counts from 0")
        if item.source is not None:
            if not item.source.text.strip():
                _wrong(f"items[{index}].source.text", "is empty")
            if len(item.source.text) > MAX_SOURCE:
                _wrong(f"items[{index}].source.text", f"has more than {MAX_SOURCE:,} characters")
            if any("\x00" in text for text in (item.source.text, item.source.title or "", item.source.ref or "")):
                _wrong(f"items[{index}].source", "holds the character U+0000")
    return items


def _named_key(sentence: str) -> str:
    """The key that a sentence of msgspec's names, `Object missing required field `arc``."""
    return sentence.split("`")[1] if sentence.count("`") >= 2 and "field" in sentence else ""


def choose(plan: Plan, pack: Pack) -> list[Chosen]:
    """Every conversation of the plan, in order. Raises PlanInvalidError naming item and key."""
    if plan.quotas is not None:
        planned = draw(pack, plan.quotas, seed=plan.seed)
        if not planned.items:
            reasons = "; ".join(f"{short.what}: {short.reason}" for short in planned.shortfalls)
            _wrong("quotas", f"nothing can be drawn from them. {reasons}")
        items: Sequence[Item] = [
            Item(one.persona, one.arc, one.topic, one.template, one.replicate, one.tier.value) for one in planned.items
        ]
    else:
        items = plan.items
    found: list[Chosen] = []
    repeated: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        persona = _part(pack, "persona", item.persona, index)
        arc = _part(pack, "arc", item.arc, index)
        topic = _part(pack, "topic", item.topic, index)
        tier = _tier(item, index)
        if item.template is not None:
            template = _part(pack, "template", item.template, index)
        else:
            try:
                template = choose_template(pack, persona, arc, topic, tier).template
            except NoTemplateError as error:
                _wrong(f"items[{index}].arc", error.message)
        values = tuple(sorted((name, repr(value)) for name, value in item.values.items()))
        source = item.source.sha256 if item.source is not None else None
        repeated[persona.key, arc.key, topic.key, template.key, source, values].append(index)
        found.append(
            Chosen(persona, arc, topic, template, tier or template.tier, item.replicate or 0, item.source, item.values)
        )
    return _numbered(items, found, repeated)


def _numbered(
    items: Sequence[Item], found: list[Chosen], repeated: Mapping[tuple[Any, ...], list[int]]
) -> list[Chosen]:
    """Equal items that give no replicate are wanted repetitions: each gets the next number that is free."""
    for places in repeated.values():
        if len(places) == 1:
            continue
        taken = {replicate for place in places if (replicate := items[place].replicate) is not None}
        free = 0
        for place in places:
            if items[place].replicate is None:
                while free in taken:
                    free += 1
                taken.add(free)
                one = found[place]
                found[place] = Chosen(
                    one.persona, one.arc, one.topic, one.template, one.tier, free, one.source, one.values
                )
    return found


def _part(pack: Pack, kind: str, key: str, index: int) -> Any:
    try:
        return getattr(pack, kind)(key)
    except KeyError:
        things: Sequence[Any] = getattr(pack, f"{kind}s")
        known = ", ".join(thing.key for thing in things[:12]) + (", …" if len(things) > 12 else "")
        _wrong(f"items[{index}].{kind}", f"{key!r} is no {kind} of the pack {pack.key} (there are {known})")


def _tier(item: Item, index: int) -> Tier | None:
    if item.tier is None:
        return None
    try:
        return Tier(item.tier)
    except ValueError:
        _wrong(f"items[{index}].tier", f"is {item.tier!r}; there are {', '.join(Tier)}")


def _sentence(error: msgspec.ValidationError) -> str:
    return str(error).replace(" - at `$.", " at `").replace("Object ", "")


def _wrong(place: str, reason: str) -> NoReturn:
    raise PlanInvalidError(f"{place}: {reason}", details={place: [reason]})
