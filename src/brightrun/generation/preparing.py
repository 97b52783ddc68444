"""From a plan to what would be sent, its names in the ledger, what it costs and what it can cost. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import orjson

from brightrun.generation import quotes
from brightrun.generation.answers import SCHEMA
from brightrun.generation.plan import Chosen, Plan, PlanInvalidError, choose
from brightrun.generation.prompts import PROMPTS_VERSION, Prompt, build_prompts, request_for, system_part, work_key
from brightrun.llm.calls import Provider, Via
from brightrun.llm.prices import Catalogue, Model, Price, upper_bound
from brightrun.scaffolding.pack import Pack

_MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class Prepared:
    """keys: work keys, in the items' order. bounds: USD a request can cost at most, None when the price is unknown."""

    plan: Plan
    pack: Pack
    model: str
    provider: Provider
    known: Model | None
    price: Price | None
    via: Via
    chosen: list[Chosen]
    prompts: list[Prompt]
    keys: list[str]
    bounds: list[Decimal | None]
    plan_hash: str

    def quote(self, to_send: list[int] | None = None) -> dict[str, Any]:
        """Of the whole plan, and of what is not there already. to_send: the places of those items; all unless given."""
        everything = list(range(len(self.prompts)))
        return quotes.describe(
            self.prompts, self.price,
            whole=self._quoted(everything),
            rest=self._quoted(everything if to_send is None else to_send),
            to_send=len(everything if to_send is None else to_send),
        )  # fmt: skip

    def _quoted(self, places: list[int]) -> tuple[quotes.Quote, quotes.Quote]:
        """(now, by the provider's batches)."""
        prompts = [self.prompts[place] for place in places]
        now, later = (
            quotes.quote(prompts, self.price, [self._bound(place, via) for place in places], via)
            for via in (Via.SYNC, Via.BATCH)
        )
        return now, later if self.provider is Provider.ANTHROPIC else quotes.Quote(None, None, None, None)

    def _bound(self, place: int, via: Via) -> Decimal | None:
        if via is self.via or self.bounds[place] is None or self.price is None or self.price.batch is None:
            return self.bounds[place] if via is self.via else None
        bound = self.bounds[place]
        assert bound is not None
        return bound * self.price.batch if via is Via.BATCH else bound / self.price.batch


def provider_of(name: str, known: Model | None, *, openai_address: bool) -> Provider:
    """Whose model a name is: as the catalogue says; a name it does not know is the other server's, if there is one."""
    if known is not None:
        return known.provider
    return Provider.OPENAI if openai_address and not name.startswith("claude") else Provider.ANTHROPIC


def plan_hash(plan: Plan, pack: Pack, model: str) -> str:
    """The same plan on the same pack with the same prompts goes on with the same batch."""
    parts = {
        "prompts": PROMPTS_VERSION,
        "pack": hashlib.sha256(system_part(pack).encode()).hexdigest(),
        "head": [pack.key, pack.head.version],
        "model": model,
        "plan": {key: value for key, value in plan.document.items() if key not in {"name", "prices"}},
        "items": [
            [item.persona, item.arc, item.topic, item.template, item.replicate, item.tier, item.values,
             None if item.source is None else [item.source.text, item.source.title, item.source.ref]]
            for item in plan.items
        ],
    }  # fmt: skip
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def prepare(plan: Plan, pack: Pack, catalogue: Catalogue, *, via: Via, openai_address: bool = False) -> Prepared:
    """Raises PlanInvalidError naming item and key."""
    model = plan.model or catalogue.default
    known = catalogue.find(model)
    provider = provider_of(model, known, openai_address=openai_address)
    price = plan.price or (known.price if known is not None else None)
    chosen = choose(plan, pack)
    prompts = build_prompts(pack, plan, chosen, known)
    keys: list[str] = []
    bounds: list[Decimal | None] = []
    for one, prompt in zip(chosen, prompts, strict=True):
        request = request_for(
            model=model, system=prompt.system, user=prompt.user, max_tokens=prompt.max_tokens, effort=plan.effort,
            long=via is Via.BATCH,
        )  # fmt: skip
        keys.append(work_key(request, provider, one.replicate))
        bound = upper_bound(request, price, via, provider)
        bounds.append(None if bound is None else bound.quantize(_MICRO, ROUND_CEILING))
    # What is sent also says whether the plan is the same: a template that was edited makes other keys.
    whole = hashlib.sha256(plan_hash(plan, pack, model).encode())
    for key in keys:
        whole.update(key.encode())
    return Prepared(plan, pack, model, provider, known, price, via, chosen, prompts, keys, bounds, whole.hexdigest())


def check_cap(prepared: Prepared, max_cost: Decimal | None) -> None:
    """Raises PlanInvalidError for a cap that nobody could keep: the price is not known."""
    if max_cost is not None and (prepared.price is None or any(bound is None for bound in prepared.bounds)):
        reason = (
            f"the price of {prepared.model} is unknown, so no cap can be kept: give `prices` in the plan "
            '({"input": …, "output": …}, USD for a million tokens), or take the cap away'
        )
        raise PlanInvalidError(f"max_cost: {reason}", details={"max_cost": [reason]}, code="price_unknown")


def names_of(pack: Pack) -> Mapping[str, str]:
    """`persona:key` → name and the like, of everything in a pack."""
    kinds = (("persona", pack.personas), ("arc", pack.arcs), ("topic", pack.topics), ("template", pack.templates))
    return {f"{kind}:{thing.key}": thing.name for kind, things in kinds for thing in things}


SCHEMA_SHA256 = hashlib.sha256(orjson.dumps(SCHEMA, option=orjson.OPT_SORT_KEYS)).hexdigest()
