"""What is looked at before a launch: what is in order, what stands in the way, and what a person has to have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from brightrun.costs.budgets import Budget
from brightrun.datasets.dismissals import Dismissals
from brightrun.datasets.tables import Dataset
from brightrun.formats.codes import CODES
from brightrun.training import spending
from brightrun.training.recommendation import Recommendation

State = Literal["ok", "note", "confirm", "blocked"]
COSTLY_USD = Decimal(100)
LONG_S = 24 * 3600
"""From these on a person says that it is meant: the earlier product's thresholds."""


@dataclass(frozen=True)
class Warned:
    """Something that is allowed and deserves a second look. code: stable; text: what was shown."""

    code: str
    text: str
    url: str | None = None


@dataclass(frozen=True)
class Check:
    """One line of the list. ok: in order; note: worth knowing; confirm: needs a tick; blocked: it cannot start so."""

    name: str
    title: str
    state: State
    text: str
    url: str | None = None


def open_warnings(dataset: Dataset, known: Dismissals) -> dict[str, int]:
    """code → how many warnings of the last check nobody has dismissed."""
    placed: dict[str, int] = {}
    for code, _line, _path, _fingerprint in known.places:
        placed[code] = placed.get(code, 0) + 1
    left: dict[str, int] = {}
    for code, count in (dataset.issue_counts or {}).items():
        if code in known.codes or code not in CODES or CODES[code].severity != "warning":
            continue
        if count > placed.get(code, 0):
            left[code] = count - placed.get(code, 0)
    return left


def warnings_of(
    promise: Mapping[str, Any],
    dataset: Dataset,
    unlooked: Mapping[str, int],
    recommended: Recommendation,
    *,
    price_per_hour: Decimal,
    max_cost: Decimal | None,
) -> list[Warned]:
    """What a person should have seen before this is started, the gravest first."""
    values: Mapping[str, Any] = promise["hyperparameters"]
    found: list[Warned] = []
    if promise["fits"] is False:
        found.append(Warned("does_not_fit", f"It is not expected to fit into memory. {' '.join(promise['reasons'])}"))
    cost, seconds = promise["cost_usd"], promise["seconds"]
    upper = spending.upper_estimate(promise, price_per_hour, max_cost)
    if upper > COSTLY_USD:
        found.append(Warned("costly", f"It may cost up to ${upper:,.2f}, more than ${COSTLY_USD}."))
    longest = seconds["high"] if seconds["high"] is not None else seconds["value"]
    if longest > LONG_S:
        found.append(Warned("long", f"It may take {longest / 3600:,.0f} hours, more than a day."))
    if max_cost is not None and price_per_hour and max_cost < Decimal(str(cost["value"])):
        found.append(
            Warned("limit_below_cost", f"Its limit of ${max_cost:,.2f} will stop it before its end, at a checkpoint.")
        )
    found += [Warned(f"advice:{field}", text) for field, text in promise["advice"].items()]
    if values["heldout_fraction"] == 0:
        found.append(
            Warned("nothing_held_out", "Nothing is held out: whether the model got better cannot be measured.")
        )
    if promise["preset_id"] == "aggressive" and recommended.preset_id != "aggressive":
        found.append(Warned("stronger_than_advised", f"It is stronger than advised. {recommended.reasons[0]}"))
    if unlooked:
        count, kinds = sum(unlooked.values()), len(unlooked)
        found.append(
            Warned(
                "dataset_warnings",
                f"{count:,} warning{'s' if count > 1 else ''} of {kinds} kind{'s' if kinds > 1 else ''} about the "
                "dataset: nobody has mended or dismissed them.",
                url=f"/datasets/{dataset.id}#issues",
            )
        )
    inputs: Mapping[str, Any] = promise.get("inputs", {})
    longest_record = inputs.get("longest_record")
    if inputs.get("tokens_exact") and longest_record and longest_record > values["max_seq_length"]:
        found.append(
            Warned(
                "records_cut",
                f"The longest record has {longest_record:,} tokens; what passes {values['max_seq_length']:,} is cut.",
            )
        )
    return found


def checks(
    promise: Mapping[str, Any],
    dataset: Dataset,
    budget: Budget,
    warnings: Sequence[Warned],
    *,
    device: str,
    unavailable: str | None,
    not_ready: str | None,
    price_per_hour: Decimal,
    max_cost: Decimal | None,
    override: bool,
    acknowledged: frozenset[str],
) -> list[Check]:
    """The list, in the order in which people think of it. device: its title; unavailable: why it cannot be had."""
    pairs = dataset.total_training_pairs or 0
    data = (
        Check("data", "Data", "ok", f"{dataset.name}: {pairs:,} training pairs, no error.")
        if not_ready is None
        else Check("data", "Data", "blocked", f"Not ready for training: {not_ready}.", f"/datasets/{dataset.id}")
    )
    machine = (
        Check("device", "Machine", "ok", f"{device}: connected.")
        if unavailable is None
        else Check("device", "Machine", "blocked", unavailable)
    )
    missing = [warning for warning in warnings if warning.code not in acknowledged]
    if not warnings:
        seen = Check("warnings", "Warnings", "ok", "None.")
    elif missing:
        seen = Check("warnings", "Warnings", "confirm", f"{len(missing)} to confirm below.")
    else:
        seen = Check("warnings", "Warnings", "ok", f"{len(warnings)} seen and confirmed.")
    money = _budget(promise, budget, price_per_hour=price_per_hour, max_cost=max_cost, override=override)
    return [data, machine, _fits(promise), money, seen]


def _fits(promise: Mapping[str, Any]) -> Check:
    memory = promise["memory_bytes"] or {}
    words = "" if memory.get("value") is None else f"about {memory['value'] / 2**30:.1f} GiB needed."
    if promise["fits"] is True:
        tight = [reason for reason in promise["reasons"] if "may need up to" in reason]
        return Check("fits", "Memory", "note" if tight else "ok", " ".join(tight) or f"It fits: {words}")
    if promise["fits"] is False:
        return Check("fits", "Memory", "confirm", f"It is not expected to fit: {words}")
    return Check("fits", "Memory", "note", f"Whether it fits is not known. {words.capitalize()}".strip())


def _budget(
    promise: Mapping[str, Any], budget: Budget, *, price_per_hour: Decimal, max_cost: Decimal | None, override: bool
) -> Check:
    upper = spending.upper_estimate(promise, price_per_hour, max_cost)
    if upper == 0:
        return Check("budget", "Budget", "ok", "It costs nothing.")
    if budget.remaining is None or budget.limit is None:
        return Check("budget", "Budget", "ok", f"Up to ${upper:,.2f}; this workspace has no limit.")
    left = f"${budget.remaining:,.2f} of this month's ${budget.limit:,.2f} are left"
    if upper <= budget.remaining:
        share = float((budget.used + upper) / budget.limit)
        return Check("budget", "Budget", "note" if share >= 0.9 else "ok", f"Up to ${upper:,.2f}; {left}.", "/costs")
    if override:
        return Check("budget", "Budget", "note", f"Up to ${upper:,.2f}; {left}. It passes the budget with your reason.")
    return Check("budget", "Budget", "blocked", f"It may cost up to ${upper:,.2f}, and {left}.", "/costs")
