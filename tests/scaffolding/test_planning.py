"""Quotas are met exactly or the shortfall is named; a plan is drawn again as it was."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.scaffolding.pack import Tier
from brightrun.scaffolding.pack_files import builtin_pack
from brightrun.scaffolding.planning import PairQuota, Quotas, QuotasInvalidError, plan, quotas_from

PACK = builtin_pack("financial_planning")


def test_the_same_seed_draws_the_same_plan_and_another_seed_another() -> None:
    quotas = Quotas(total=200)
    assert plan(PACK, quotas, seed=7) == plan(PACK, quotas, seed=7)
    assert plan(PACK, quotas, seed=7) != plan(PACK, quotas, seed=8)


def test_numbers_are_met_exactly_in_every_dimension() -> None:
    personas = {"overwhelmed_avoider": 30, "anxious_planner": 20, "pragmatic_optimist": 10}
    arcs = {"confusion_to_clarity": 40, "crisis_to_referral": 12, "fear_to_confidence": 8}
    topics = {"roth_ira_conversion": 25, "long_term_care": 20, "esg_investing": 15}
    planned = plan(
        PACK, Quotas(personas=personas, arcs=arcs, topics=topics, tiers={Tier.TEMPLATE: 48, Tier.EDGE_CASE: 12})
    )
    assert planned.shortfalls == ()
    assert Counter(item.persona for item in planned.items) == personas
    assert Counter(item.arc for item in planned.items) == arcs
    assert Counter(item.topic for item in planned.items) == topics
    assert Counter(item.tier for item in planned.items) == {Tier.TEMPLATE: 48, Tier.EDGE_CASE: 12}


def test_by_default_all_personas_the_core_arcs_and_the_featured_topics_are_spread_evenly() -> None:
    planned = plan(PACK, Quotas(total=420))
    assert set(Counter(item.persona for item in planned.items).values()) == {140}
    assert set(Counter(item.arc for item in planned.items).values()) == {60}
    topics = Counter(item.topic for item in planned.items)
    assert set(topics.values()) == {21}
    assert set(topics) == {topic.key for topic in PACK.topics if topic.featured}


def test_no_cell_comes_twice_while_an_allowed_one_is_free() -> None:
    planned = plan(PACK, Quotas(total=60))
    assert max(Counter(item.cell for item in planned.items).values()) == 1
    assert all(item.points > 30 for item in planned.items)


def test_what_repeats_is_numbered_and_goes_on_after_what_exists() -> None:
    cell = ("overwhelmed_avoider", "confusion_to_clarity", "roth_ira_conversion")
    quotas = Quotas(total=3, personas=(cell[0],), arcs=(cell[1],), topics=(cell[2],))
    assert sorted(item.replicate for item in plan(PACK, quotas).items) == [0, 1, 2]
    assert sorted(item.replicate for item in plan(PACK, quotas, existing={cell: 4}).items) == [4, 5, 6]


def test_pairs_fill_exactly_the_cells_that_are_named() -> None:
    pairs = (
        PairQuota(persona="anxious_planner", arc="fear_to_confidence", count=3),
        PairQuota(persona="pragmatic_optimist", arc="hostility_to_boundary", count=2),
    )
    planned = plan(PACK, Quotas(pairs=pairs))
    assert Counter((item.persona, item.arc) for item in planned.items) == {
        ("anxious_planner", "fear_to_confidence"): 3, ("pragmatic_optimist", "hostility_to_boundary"): 2,
    }  # fmt: skip


def test_scenarios_are_of_the_everyday_arcs() -> None:
    planned = plan(PACK, Quotas(total=30, tiers={Tier.TEMPLATE: 20, Tier.SCENARIO: 5, Tier.EDGE_CASE: 5}))
    assert Counter(item.tier for item in planned.items) == {"template": 20, "scenario": 5, "edge_case": 5}
    assert all(PACK.arc(item.arc).category == "core" for item in planned.items if item.tier is Tier.SCENARIO)


def test_a_quota_that_cannot_be_met_is_named_and_nothing_is_dropped_in_silence() -> None:
    planned = plan(PACK, Quotas(total=50, topics=("roth_ira_conversion",), min_points=100))
    assert planned.shortfalls
    assert len(planned.items) + sum(shortfall.missing for shortfall in planned.shortfalls) == 50


def test_topics_move_along_before_a_quota_is_given_up() -> None:
    """Only one assignment meets both: the everyday order takes the wrong topic first for some seeds."""
    quotas = Quotas(
        pairs=(
            PairQuota(persona="overwhelmed_avoider", arc="shame_to_acceptance", count=5),
            PairQuota(persona="anxious_planner", arc="fear_to_confidence", count=5),
        ),
        topics={"no_retirement_at_45": 5, "ignored_401k": 5},
        min_points=60,
    )
    for seed in range(10):
        planned = plan(PACK, quotas, seed=seed)
        assert planned.shortfalls == ()
        assert {item.cell[0]: item.topic for item in planned.items} == {
            "overwhelmed_avoider": "ignored_401k", "anxious_planner": "no_retirement_at_45",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({}, "total"),
        ({"total": 0}, "total"),
        ({"total": 10, "personas": ["nobody"]}, "personas"),
        ({"total": 10, "personas": {"anxious_planner": 9}}, "personas"),
        ({"total": 10, "arcs": {"fear_to_confidence": 9}}, "arcs"),
        ({"total": 10, "arcs": ["fear_to_confidence"], "tiers": {"edge_case": 10}}, "tiers"),
        ({"total": 10, "tiers": {"epic": 10}}, "tiers.epic.[key]"),
        ({"total": 10, "topics": {"roth_ira_conversion": -1}}, "topics.roth_ira_conversion"),
        ({"totl": 10}, "totl"),
        ({"pairs": [{"persona": "anxious_planner", "arc": "x", "count": 1}]}, "pairs.0.arc"),
        ({"total": 3, "pairs": [{"persona": "anxious_planner", "arc": "fear_to_confidence", "count": 1}]}, "total"),
        ("ten", "quotas"),
    ],
)  # fmt: skip
def test_wrong_quotas_are_refused_with_the_place(document: object, place: str) -> None:
    with pytest.raises(QuotasInvalidError) as caught:
        plan(PACK, quotas_from(document))
    assert place in caught.value.details, caught.value.details


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 300),
    seed=st.integers(0, 10**9),
    personas=st.sets(st.sampled_from([p.key for p in PACK.personas]), min_size=1),
    arcs=st.sets(st.sampled_from([a.key for a in PACK.arcs]), min_size=1),
    topics=st.sets(st.sampled_from([t.key for t in PACK.topics]), min_size=1),
)
def test_items_and_shortfalls_always_add_up(
    total: int, seed: int, personas: set[str], arcs: set[str], topics: set[str]
) -> None:
    quotas = Quotas(
        total=total, personas=tuple(sorted(personas)), arcs=tuple(sorted(arcs)), topics=tuple(sorted(topics))
    )
    planned = plan(PACK, quotas, seed=seed)
    assert len(planned.items) + sum(shortfall.missing for shortfall in planned.shortfalls) == total
    assert {(item.persona in personas, item.arc in arcs, item.topic in topics) for item in planned.items} <= {
        (True, True, True)
    }
    assert len({(item.cell, item.template, item.replicate) for item in planned.items}) == len(planned.items)
