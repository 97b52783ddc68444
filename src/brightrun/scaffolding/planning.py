"""From quotas to the list of conversations to write: seeded, reproducible, every quota met or its shortfall named.

The planner owns diversity (today's models take no temperature): it spreads the conversations over persona × arc × topic
so that no cell is used twice before every allowed one was used once, prefers combinations that fit one another, and
numbers what repeats (`replicate`), which moves the starting question, the worry and the length on.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from brightrun.errors import InvalidInputError
from brightrun.scaffolding.compatibility import THRESHOLD_POINTS, compatibility
from brightrun.scaffolding.pack import Arc, Key, Pack, Persona, Tier, Topic
from brightrun.scaffolding.selection import NoTemplateError, choose_template

MAX_TOTAL = 100_000

Count = Annotated[int, Field(ge=0, le=MAX_TOTAL)]
Share = dict[Key, Count] | tuple[Key, ...] | None
"""Exact numbers by key; or keys to spread evenly over; or None: all that are active."""

CellKey = tuple[str, str, str]
"""(persona, arc, topic)."""


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PairQuota:
    """A cell of the grid persona × arc."""

    persona: Key
    arc: Key
    count: Count


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Quotas:
    """What to write. Numbers are met exactly; a list of keys is spread over evenly; nothing given means all.

    topics: unless given, the pack's featured ones. tiers: unless given, the tiers of the named arcs, or `template`.
    pairs: numbers for cells of persona × arc; then `total`, `personas`, `arcs` and `tiers` follow from them.
    min_points: a combination must fit better than chance, by default more than 30 of 100 points.
    """

    total: Annotated[int, Field(ge=1, le=MAX_TOTAL)] | None = None
    personas: Share = None
    arcs: Share = None
    topics: Share = None
    tiers: dict[Tier, Count] | None = None
    pairs: Annotated[tuple[PairQuota, ...], Field(max_length=10_000)] = ()
    min_points: Annotated[int, Field(ge=0, le=100)] = THRESHOLD_POINTS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanItem:
    """One conversation to write. replicate: 0 for the first of its cell and template, 1 for the next."""

    persona: str
    arc: str
    topic: str
    template: str
    tier: Tier
    replicate: int
    points: int

    @property
    def cell(self) -> CellKey:
        return (self.persona, self.arc, self.topic)

    def as_json(self) -> dict[str, str | int]:
        """As an item of a plan file."""
        return {
            "persona": self.persona,
            "arc": self.arc,
            "topic": self.topic,
            "template": self.template,
            "replicate": self.replicate,
        }


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A quota that could not be met: how many are missing of what, and why."""

    what: str
    missing: int
    reason: str


@dataclass(frozen=True, slots=True)
class Planned:
    items: tuple[PlanItem, ...]
    shortfalls: tuple[Shortfall, ...]


class QuotasInvalidError(InvalidInputError):
    """Quotas that contradict themselves or name what the pack lacks; `details` is place → sentences."""

    code = "quotas_invalid"


_QUOTAS = TypeAdapter(Quotas)


def quotas_from(document: Any) -> Quotas:
    """The quotas in a JSON object. Raises QuotasInvalidError with every place."""
    try:
        return _QUOTAS.validate_python(document)
    except ValidationError as error:
        details: dict[str, list[str]] = {}
        for one in error.errors(include_url=False):
            # A share may be numbers or a list: the name of the alternative is of no use to a reader.
            place = ".".join(str(part) for part in one["loc"] if not str(part).startswith(("dict[", "tuple[")))
            details.setdefault(place or "quotas", []).append(one["msg"])
        first = next(iter(details))
        raise QuotasInvalidError(f"The quotas are wrong at {first}: {details[first][0]}", details=details) from error


def plan(pack: Pack, quotas: Quotas, *, seed: int = 0, existing: Mapping[CellKey, int] | None = None) -> Planned:
    """The conversations that meet `quotas`, the same for the same pack, quotas, seed and `existing`.

    existing: how many conversations of each cell there are already; they are left out of the count, their cells come
    last, and replicates go on where they end. Raises QuotasInvalidError.
    """
    rng = random.Random(f"brightrun plan {seed}")  # noqa: S311 - a plan is drawn, not kept secret
    have = Counter(existing or {})
    arcs = _arcs(pack, quotas)
    pairs, tier_of = _pairs(pack, quotas, arcs, rng)
    wanted = sum(pairs.values())
    topics = _share(pack.topics, quotas.topics, wanted, "topics", rng, usual=lambda topic: topic.featured)
    allowed = _allowed(pack, pairs, topics, quotas.min_points)
    drawn, shortfalls = _draw(pairs, topics, allowed, have, rng)
    items, without = _with_templates(pack, drawn, tier_of, allowed, have)
    return Planned(tuple(items), (*shortfalls, *without))


def _arcs(pack: Pack, quotas: Quotas) -> list[Arc]:
    """The arcs that may be used: the named ones, or those of the wanted tiers."""
    if quotas.arcs is not None:
        return [arc for arc in pack.arcs if arc.key in set(quotas.arcs)]
    edge = quotas.tiers is not None and quotas.tiers.get(Tier.EDGE_CASE, 0) > 0
    everyday = quotas.tiers is None or any(n > 0 for tier, n in quotas.tiers.items() if tier is not Tier.EDGE_CASE)
    return [arc for arc in pack.arcs if arc.active and (edge if arc.tier is Tier.EDGE_CASE else everyday)]


def _pairs(
    pack: Pack, quotas: Quotas, arcs: Sequence[Arc], rng: random.Random
) -> tuple[Counter[tuple[str, str]], dict[str, Counter[Tier]]]:
    """How many of each (arc, persona), and of each arc's conversations how many in which tier."""
    _known(pack.personas, quotas.personas, "personas")
    _known(pack.arcs, quotas.arcs, "arcs")
    if quotas.pairs:
        counted: Counter[tuple[str, str]] = Counter()
        for index, pair in enumerate(quotas.pairs):
            _known(pack.personas, (pair.persona,), f"pairs.{index}.persona")
            _known(pack.arcs, (pair.arc,), f"pairs.{index}.arc")
            counted[pair.arc, pair.persona] += pair.count
        total = sum(counted.values())
        if quotas.total not in (None, total):
            raise _wrong("total", f"is {quotas.total}, but the pairs add up to {total}")
        return +counted, {arc.key: Counter({arc.tier: total}) for arc in pack.arcs}
    total = _total(quotas)
    by_tier = _tiers(quotas, arcs, total)
    of_arc: Counter[str] = Counter()
    tier_of: dict[str, Counter[Tier]] = {}
    explicit = quotas.arcs if isinstance(quotas.arcs, dict) else None
    if explicit is not None and sum(explicit.values()) != total:
        raise _wrong("arcs", f"add up to {sum(explicit.values())}, not to the total of {total}")
    for edge in (False, True):
        here = [arc for arc in arcs if (arc.tier is Tier.EDGE_CASE) is edge]
        tiers = Counter({tier: n for tier, n in by_tier.items() if (tier is Tier.EDGE_CASE) is edge})
        counts = {arc.key: explicit[arc.key] for arc in here} if explicit else _evenly(here, tiers.total(), rng)
        if sum(counts.values()) != tiers.total():
            kind = "edge-case" if edge else "everyday"
            raise _wrong("tiers", f"ask for {tiers.total()} {kind} conversations, the arcs for {sum(counts.values())}")
        of_arc.update(counts)
        tier_of |= _tiers_of_arcs(counts, tiers)
    personas = _share(pack.personas, quotas.personas, total, "personas", rng)
    return _spread(of_arc, personas, rng), tier_of


def _total(quotas: Quotas) -> int:
    """The total that was given, or what numbers add up to."""
    sums = {
        name: sum(share.values())
        for name, share in (
            ("personas", quotas.personas),
            ("arcs", quotas.arcs),
            ("topics", quotas.topics),
            ("tiers", quotas.tiers),
        )
        if isinstance(share, dict)
    }
    total = quotas.total or next((n for n in sums.values() if n), None)
    if total is None:
        raise _wrong("total", "say how many conversations to write")
    for name, n in sums.items():
        if n != total:
            raise _wrong(name, f"add up to {n}, not to the total of {total}")
    return total


def _tiers(quotas: Quotas, arcs: Sequence[Arc], total: int) -> dict[Tier, int]:
    if quotas.tiers is not None:
        return dict(quotas.tiers)
    edge = [arc for arc in arcs if arc.tier is Tier.EDGE_CASE]
    if isinstance(quotas.arcs, dict):
        n = sum(quotas.arcs[arc.key] for arc in edge)
    else:
        n = round(total * len(edge) / len(arcs)) if arcs else 0
    return {Tier.TEMPLATE: total - n, Tier.EDGE_CASE: n}


def _tiers_of_arcs(counts: Mapping[str, int], tiers: Counter[Tier]) -> dict[str, Counter[Tier]]:
    """Which of each arc's conversations are of which tier, dealt out in turn."""
    dealt = [tier for tier, n in sorted(tiers.items()) for _ in range(n)]
    order = [(place / n, key) for key, n in counts.items() for place in range(n)]
    result: dict[str, Counter[Tier]] = {key: Counter() for key in counts}
    for tier, (_, key) in zip(dealt, sorted(order), strict=True):
        result[key][tier] += 1
    return result


def _share(
    things: Sequence[Persona] | Sequence[Topic],
    share: Share,
    total: int,
    what: str,
    rng: random.Random,
    usual: Any = None,
) -> dict[str, int]:
    """How many of each, by key, in the pack's order."""
    _known(things, share, what)
    if isinstance(share, dict):
        if sum(share.values()) != total:
            raise _wrong(what, f"add up to {sum(share.values())}, not to the total of {total}")
        return {key: n for key, n in share.items() if n}
    if share is not None:
        chosen = [thing for thing in things if thing.key in set(share)]
    else:
        chosen = [thing for thing in things if thing.active]
        if usual is not None and any(usual(thing) for thing in chosen):
            chosen = [thing for thing in chosen if usual(thing)]
    if not chosen:
        raise _wrong(what, "there is none that is active")
    return _evenly(chosen, total, rng)


def _known(things: Sequence[Any], named: Iterable[str] | None, what: str) -> None:
    there = {thing.key: thing for thing in things}
    for key in named or ():
        if key not in there:
            raise _wrong(what, f"there is no {key!r} in the pack")
        if not there[key].active:
            raise _wrong(what, f"{key!r} is not active")


def _evenly(things: Sequence[Any], total: int, rng: random.Random) -> dict[str, int]:
    """As equal as whole numbers can be; who gets one more is drawn."""
    if not things:
        return {}
    base, rest = divmod(total, len(things))
    lucky = set(rng.sample([thing.key for thing in things], rest))
    return {thing.key: base + (thing.key in lucky) for thing in things}


def _spread(arcs: Mapping[str, int], personas: Mapping[str, int], rng: random.Random) -> Counter[tuple[str, str]]:
    """(arc, persona) → n with both sums met: each arc takes from the personas in proportion to what they have left."""
    left, open_slots = dict(personas), sum(personas.values())
    counted: Counter[tuple[str, str]] = Counter()
    for arc, n in arcs.items():
        exact = {key: n * left[key] / open_slots if open_slots else 0 for key in left}
        taken = {key: int(share) for key, share in exact.items()}
        by_rest = sorted(exact, key=lambda key: (taken[key] - exact[key], rng.random()))
        while sum(taken.values()) < n:
            for key in by_rest:
                if sum(taken.values()) < n and taken[key] < left[key]:
                    taken[key] += 1
        for key, many in taken.items():
            left[key] -= many
            counted[arc, key] += many
        open_slots -= n
    return +counted


def _allowed(
    pack: Pack, pairs: Iterable[tuple[str, str]], topics: Iterable[str], min_points: int
) -> dict[tuple[str, str], dict[str, int]]:
    """(arc, persona) → topic → points, where the points are enough."""
    result: dict[tuple[str, str], dict[str, int]] = {}
    for arc, persona in pairs:
        scored = {
            topic: compatibility(pack.persona(persona), pack.arc(arc), pack.topic(topic)).points for topic in topics
        }
        result[arc, persona] = {topic: points for topic, points in scored.items() if points >= min_points}
    return result


def _draw(
    pairs: Counter[tuple[str, str]],
    topics: Mapping[str, int],
    allowed: Mapping[tuple[str, str], Mapping[str, int]],
    have: Counter[CellKey],
    rng: random.Random,
) -> tuple[list[tuple[str, str, str]], list[Shortfall]]:
    """(arc, persona, topic) of each conversation: fresh cells first, then those that fit best."""
    slots = [pair for pair, n in pairs.items() for _ in range(n)]
    rng.shuffle(slots)
    left = dict(topics)
    used: Counter[tuple[str, str, str]] = Counter()
    shortfalls: Counter[tuple[str, str]] = Counter()
    for arc, persona in slots:
        fits = allowed[arc, persona]
        open_topics = [topic for topic in fits if left[topic] > 0]
        if open_topics:
            topic = min(
                open_topics,
                key=lambda t: (
                    used[arc, persona, t] + have[persona, arc, t],
                    -fits[t],
                    -left[t] / topics[t],
                    rng.random(),
                ),
            )
            used[arc, persona, topic] += 1
            left[topic] -= 1
        elif not _rearrange((arc, persona), used, left, allowed):
            shortfalls[arc, persona] += 1
    drawn = [cell for cell, n in used.items() for _ in range(n)]
    rng.shuffle(drawn)
    missing = [
        Shortfall(f"{persona} on {arc}", n, "no topic that is left fits well enough: allow more topics or a lower fit")
        for (arc, persona), n in sorted(shortfalls.items())
    ]
    return drawn, missing


def _rearrange(
    pair: tuple[str, str],
    used: Counter[tuple[str, str, str]],
    left: dict[str, int],
    allowed: Mapping[tuple[str, str], Mapping[str, int]],
) -> bool:
    """Gives `pair` a topic by moving others along: an augmenting path over the cells. False: there is none."""
    came_from: dict[str, tuple[tuple[str, str], str | None]] = dict.fromkeys(allowed[pair], (pair, None))
    queue = list(came_from)
    while queue:
        topic = queue.pop(0)
        if left[topic] > 0:
            left[topic] -= 1
            step: str | None = topic
            while step is not None:
                who, before = came_from[step]
                used[(*who, step)] += 1
                if before is not None:
                    used[(*who, before)] -= 1
                step = before
            return True
        for (arc, persona, at), n in used.items():
            if at == topic and n > 0:
                for other in allowed[arc, persona]:
                    if other not in came_from:
                        came_from[other] = ((arc, persona), topic)
                        queue.append(other)
    return False


def _with_templates(
    pack: Pack,
    drawn: Sequence[tuple[str, str, str]],
    tier_of: dict[str, Counter[Tier]],
    allowed: Mapping[tuple[str, str], Mapping[str, int]],
    have: Counter[CellKey],
) -> tuple[list[PlanItem], list[Shortfall]]:
    items: list[PlanItem] = []
    without: Counter[tuple[str, str]] = Counter()
    replicates: Counter[tuple[str, str, str, str]] = Counter()
    tiers = {key: list(counter.elements()) for key, counter in tier_of.items()}
    for arc_key, persona_key, topic_key in drawn:
        persona, arc, topic = pack.persona(persona_key), pack.arc(arc_key), pack.topic(topic_key)
        tier = tiers[arc_key].pop() if tiers[arc_key] else arc.tier
        try:
            template = choose_template(pack, persona, arc, topic, tier).template.key
        except NoTemplateError as error:
            without[arc_key, error.message] += 1
            continue
        again = replicates[persona_key, arc_key, topic_key, template]
        replicates[persona_key, arc_key, topic_key, template] += 1
        items.append(
            PlanItem(
                persona=persona_key,
                arc=arc_key,
                topic=topic_key,
                template=template,
                tier=tier,
                replicate=have[persona_key, arc_key, topic_key] + again,
                points=allowed[arc_key, persona_key][topic_key],
            )
        )
    return items, [Shortfall(arc, n, reason) for (arc, reason), n in sorted(without.items())]


def _wrong(place: str, reason: str) -> QuotasInvalidError:
    return QuotasInvalidError(f"{place}: {reason}", details={place: [reason]})
