"""A sent prompt holds what was chosen and never an unfilled placeholder."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.scaffolding.pack import Pack, Template, Variable, VariableType
from brightrun.scaffolding.pack_checks import template_faults
from brightrun.scaffolding.pack_files import builtin_keys, builtin_pack
from brightrun.scaffolding.rendering import (
    TemplateFaultError,
    UnfilledVariableError,
    parse,
    render,
    render_system,
    render_text,
)
from brightrun.scaffolding.variables import STANDARD, variables_for

LEFTOVER = re.compile(r"\{\{|\}\}|\{%|%\}|\[object|<brightrun|\bNone\b|Undefined|\(\)|\['")


def _combinations() -> Iterator[tuple[Pack, Template, dict[str, object]]]:
    for pack in map(builtin_pack, builtin_keys()):
        for template in pack.templates:
            for persona in pack.personas:
                for topic in pack.topics:
                    yield pack, template, {"persona": persona, "arc": pack.arc(template.arc), "topic": topic}


def test_no_combination_of_any_pack_leaves_a_placeholder() -> None:
    """Every persona × arc × topic × template that can be sent."""
    seen = 0
    for pack, template, chosen in _combinations():
        prompt = render(template, variables_for(pack, template, replicate=seen % 7, **chosen))
        assert not LEFTOVER.search(prompt), (template.key, LEFTOVER.search(prompt))
        for thing in ("persona", "arc", "topic"):
            assert chosen[thing].name in prompt or chosen[thing].starting_emotion in prompt, (template.key, thing)
        seen += 1
    assert seen == 3 * 65 * 10 + 3 * 11 * 4


def test_a_template_of_another_arc_fills_as_well() -> None:
    """An explicit template is allowed with any arc: the combinations above are those of the template's own."""
    for pack in map(builtin_pack, builtin_keys()):
        for template in pack.templates:
            for arc in pack.arcs:
                prompt = render(template, variables_for(pack, template, pack.personas[0], arc, pack.topics[0]))
                assert not LEFTOVER.search(prompt)


def test_the_system_part_is_the_same_for_all_and_names_the_consultant() -> None:
    for pack in map(builtin_pack, builtin_keys()):
        system = render_system(pack)
        assert not LEFTOVER.search(system)
        assert pack.profile.name in system
        assert all(rule in system for rule in pack.profile.safety)


def test_replicates_of_a_cell_differ() -> None:
    """Today's models take no temperature: what repeats has to be asked for differently."""
    pack = builtin_pack("financial_planning")
    template = pack.template("confusion_education_focus")
    arc, persona, topic = pack.arc(template.arc), pack.personas[0], pack.topics[0]
    prompts = {
        render(template, variables_for(pack, template, persona, arc, topic, replicate=replicate))
        for replicate in range(20)
    }
    assert len(prompts) == 20


def test_a_value_is_data_and_never_a_template() -> None:
    assert render_text("{{ name }}", {"name": "{{ secret }} {% if %}"}) == "{{ secret }} {% if %}"


def test_a_variable_that_nothing_fills_is_named() -> None:
    with pytest.raises(UnfilledVariableError, match=r"\{\{ topic_nmae \}\}") as caught:
        render_text("About {{ topic_nmae }}", {"topic_name": "x"})
    assert "topic_nmae" in caught.value.details


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ persona_name.upper() }}",
        "{{ range(10**9) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 2 ** 100000 }}",
        "{% for a in xs %}{% for b in xs %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in 'abc' %}x{% endfor %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% macro m() %}x{% endmacro %}",
        "{% set x = 1 %}",
        "{{ x | attr('__class__') }}",
        "{{ x | map('upper') }}",
        "{{ cycler }}{{ lipsum() }}",
        "{{ loop.changed(1) }}",
        "{% if x %}",
        "{{ has ? 'a' : 'b' }}",
        "{{ x",
    ],
)
def test_a_template_can_do_nothing_but_fill(text: str) -> None:
    with pytest.raises((TemplateFaultError, UnfilledVariableError)):
        render_text(text, {"x": "v", "xs": ("a", "b")})


def test_a_fault_tells_the_line() -> None:
    with pytest.raises(TemplateFaultError, match=r"^Line 3"):
        parse("one\ntwo\n{{ a.b }}")


@given(st.text(max_size=200))
def test_any_text_is_either_filled_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateFaultError, UnfilledVariableError):
        render_text(text, {"a": "1"})


@given(st.dictionaries(st.sampled_from([v.name for v in STANDARD]), st.text(min_size=1, max_size=30)))
def test_what_a_value_says_stands_in_the_prompt(values: dict[str, str]) -> None:
    text = "\n".join(f"{{{{ {name} }}}}" for name in values) + "."
    assert render_text(text, values) == "\n".join(values.values()) + "."


@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        (Variable(name="v", type=VariableType.TEXT), "x", 3),
        (Variable(name="v", type=VariableType.NUMBER), 3, "3"),
        (Variable(name="v", type=VariableType.NUMBER), 0.5, 1e300),
        (Variable(name="v", type=VariableType.LIST), ("a",), "a"),
        (Variable(name="v", type=VariableType.CHOICE, options=("a", "b")), "a", "c"),
        (Variable(name="v", type=VariableType.YES_NO), True, "yes"),
    ],
)
def test_a_value_has_the_type_of_its_variable(variable: Variable, good: object, bad: object) -> None:
    template = dataclasses.replace(builtin_pack("it_help_desk").templates[0], text="{{ v }}", variables=(variable,))
    assert render(template, {"v": good})
    with pytest.raises(UnfilledVariableError, match=r"^v must"):
        render(template, {"v": bad})


def test_an_optional_variable_is_asked_for_before_it_is_used() -> None:
    pack = builtin_pack("it_help_desk")
    base = pack.template("honest_about_change")
    assert template_faults(pack, base) == []
    careless = dataclasses.replace(base, text="{{ colleague_name }}")
    [(place, reason)] = [fault for fault in template_faults(pack, careless) if fault[0] == "text"]
    assert "colleague_name" in reason, place


def test_extras_of_the_topic_fill_what_the_template_leaves_to_them() -> None:
    pack = builtin_pack("financial_planning")
    template = pack.template("fear_investment_anxiety")
    topic = dataclasses.replace(
        pack.topic("market_crash_fears"), extras={"security_indicators": "seven months of cash"}
    )
    prompt = render(template, variables_for(pack, template, pack.personas[0], pack.arc(template.arc), topic))
    assert "seven months of cash" in prompt
    assert "payroll e-mails about vesting" in prompt  # the persona's own, not the template's default
