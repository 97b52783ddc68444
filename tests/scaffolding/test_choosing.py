"""Compatibility counts exactly; the arc decides on the template."""

import dataclasses

import pytest

from brightrun.scaffolding.compatibility import compatibility
from brightrun.scaffolding.pack import Pack, Tier
from brightrun.scaffolding.pack_files import builtin_keys, builtin_pack
from brightrun.scaffolding.selection import NoTemplateError, choose_template

PACK = builtin_pack("financial_planning")


def test_what_fits_in_every_way_scores_one() -> None:
    fit = compatibility(
        PACK.persona("overwhelmed_avoider"), PACK.arc("confusion_to_clarity"), PACK.topic("roth_ira_conversion")
    )
    assert (fit.score, fit.compatible, fit.reasons) == (1.0, True, ())


def test_the_worst_case_is_exactly_thirty_hundredths_and_not_compatible() -> None:
    """0.2 + 0.2 + 0.15 + 0.15 in floating point leaves 0.30000000000000004, which passed every combination once."""
    fit = compatibility(
        PACK.persona("pragmatic_optimist"), PACK.arc("shame_to_acceptance"), PACK.topic("long_term_care")
    )
    assert fit.score == 0.3
    assert not fit.compatible
    assert {reason.code: reason.points for reason in fit.reasons} == {
        "arc_without_persona": 20, "arc_without_topic": 20, "topic_without_persona": 15, "topic_without_arc": 15,
    }  # fmt: skip


def test_an_empty_list_means_any() -> None:
    arc = PACK.arc("crisis_to_referral")
    assert arc.suitable_topics == ()
    fit = compatibility(PACK.persona("anxious_planner"), arc, PACK.topic("eldercare_costs"))
    assert [reason.code for reason in fit.reasons] == ["topic_without_arc"]


def test_the_arc_decides_and_the_choice_is_explained() -> None:
    for pack in map(builtin_pack, builtin_keys()):
        for arc in pack.arcs:
            for persona in pack.personas:
                for topic in pack.topics:
                    choice = choose_template(pack, persona, arc, topic)
                    assert choice.template.arc == arc.key
                    assert arc.name in choice.explanation


def _with(pack: Pack, **changes: object) -> Pack:
    extra = dataclasses.replace(pack.template("shame_financial_trauma"), **changes)
    return dataclasses.replace(pack, templates=(*pack.templates, extra))


def test_persona_and_topic_halve_and_never_exclude() -> None:
    pack = _with(PACK, key="another", suitable_personas=("anxious_planner",), suitable_topics=())
    arc, topic = pack.arc("shame_to_acceptance"), pack.topic("esg_investing")
    assert choose_template(pack, pack.persona("anxious_planner"), arc, topic).template.key == "another"
    choice = choose_template(pack, pack.persona("pragmatic_optimist"), arc, topic)
    assert choice.points == 50
    assert [ranked.points for ranked in choice.alternatives] == [25]


def test_an_inactive_template_is_not_chosen() -> None:
    templates = tuple(dataclasses.replace(t, active=t.arc != "guilt_to_permission") for t in PACK.templates)
    pack = dataclasses.replace(PACK, templates=templates)
    with pytest.raises(NoTemplateError, match="no active template"):
        choose_template(pack, pack.personas[0], pack.arc("guilt_to_permission"), pack.topics[0])


def test_a_scenario_takes_the_everyday_template_and_says_so() -> None:
    arc = PACK.arc("confusion_to_clarity")
    choice = choose_template(PACK, PACK.personas[0], arc, PACK.topics[0], Tier.SCENARIO)
    assert choice.tier is Tier.SCENARIO
    assert "no template of tier scenario" in choice.explanation


def test_an_edge_case_of_an_everyday_arc_is_refused_with_what_there_is() -> None:
    with pytest.raises(NoTemplateError, match="it has template"):
        choose_template(PACK, PACK.personas[0], PACK.arc("fear_to_confidence"), PACK.topics[0], Tier.EDGE_CASE)
