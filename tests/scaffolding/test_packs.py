"""A pack reads strictly, writes back equal, and holds nothing that a person would have to guess."""

import pytest

from brightrun.errors import NotFoundError
from brightrun.scaffolding.pack import Pack, Tier
from brightrun.scaffolding.pack_files import (
    PackInvalidError,
    builtin_keys,
    builtin_pack,
    pack_from_files,
    pack_to_files,
)


@pytest.fixture(params=["financial_planning", "it_help_desk"])
def pack(request: pytest.FixtureRequest) -> Pack:
    return builtin_pack(request.param)


def test_two_trades_come_with_the_program() -> None:
    assert builtin_keys() == ["financial_planning", "it_help_desk"]


def test_financial_planning_has_the_catalogue_of_the_earlier_product() -> None:
    pack = builtin_pack("financial_planning")
    assert {persona.key for persona in pack.personas} == {
        "overwhelmed_avoider", "anxious_planner", "pragmatic_optimist",
    }  # fmt: skip
    assert [arc.category for arc in pack.arcs].count("core") == 7
    assert [arc.category for arc in pack.arcs].count("edge") == 3
    assert len(pack.topics) == 65
    assert sum(topic.featured for topic in pack.topics) == 20
    assert [template.tier for template in pack.templates].count(Tier.TEMPLATE) == 7
    assert [template.tier for template in pack.templates].count(Tier.EDGE_CASE) == 3
    assert pack.profile.name == "Elena Morales, CFP"
    confusion = pack.arc("confusion_to_clarity")
    assert (confusion.starting_intensity.min, confusion.starting_intensity.max) == (0.70, 0.85)
    assert (confusion.turns.min, confusion.turns.max, confusion.complexity) == (3, 5, 7)
    assert pack.topic("roth_ira_conversion").key_concepts == (
        "tax planning", "retirement income", "conversion timing", "brackets",
    )  # fmt: skip


def test_every_arc_has_a_template_of_its_tier(pack: Pack) -> None:
    assert {(template.arc, template.tier) for template in pack.templates} == {(arc.key, arc.tier) for arc in pack.arcs}


def test_nothing_of_finance_is_in_the_help_desk() -> None:
    text = b"".join(pack_to_files(builtin_pack("it_help_desk")).values()).lower()
    for word in (b"elena", b"financ", b"retire", b"invest"):
        assert word not in text


def test_a_pack_written_reads_back_equal(pack: Pack) -> None:
    assert pack_from_files(pack_to_files(pack)) == pack


def test_an_absent_pack_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="'nope'"):
        builtin_pack("nope")


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("pack.yaml", "years_experience: 9", "years_experience: nine", "pack.yaml: profile.years_experience:"),
        ("pack.yaml", "client_word: caller", "clientword: caller", "pack.yaml: profile.clientword: is not a key"),
        ("pack.yaml", "format: 1", "format: 2", "pack.yaml: format:"),
        ("arcs.yaml", "min: 0.7\n", "min: 1.7\n", "arcs.yaml: [0].starting_intensity.min:"),
        ("arcs.yaml", "- hurried_manager\n", "- nobody\n", "arcs.yaml: [0].suitable_personas[0]: there is no 'nobody'"),
        ("topics.yaml", "- panic_to_control\n", "- no_arc\n", "topics.yaml: [0].suitable_arcs[1]"),
        ("topics.yaml", "key: multi_factor_setup", "key: password_reset", "topics.yaml: [1].key: 'password_reset' is"),
        ("personas.yaml", "- How long will this take?", "- How {{ long }}?", "[0].typical_questions[0]: holds '{{'"),
        ("personas.yaml", "name: Ruth Lindqvist", "name: '[object Object]'", "[0].name: holds '[object Object]'"),
        ("personas.yaml", "name: Ruth Lindqvist", "name: Ruth\n  name: Ruth", "line 3: the key 'name' stands twice"),
        ("personas.yaml", "name: Ruth Lindqvist", "name: &n Ruth\n  archetype: *n", "line 3: aliases are not taken"),
        ("personas.yaml", "name: Ruth Lindqvist", "name: " + "[" * 9000, "line 2: nested deeper"),
        ("templates/steady_hands.yaml", "arc: panic_to_control", "arc: gone", "arc: there is no arc"),
        ("templates/steady_hands.yaml", "key: steady_hands", "key: steady_hand", "key: is 'steady_hand': the file is"),
        ("templates/steady_hands.yaml", "{{ workaround }}", "{{ workround }}", "nothing fills {{ workround }}"),
        ("templates/steady_hands.yaml", "default: 25", "default: soon", "variables[0]: default: must be a number"),
        ("templates/steady_hands.yaml", "- name: workaround", "- name: persona_name", "is filled by the program"),
    ],
)  # fmt: skip
def test_a_bad_pack_is_refused_with_the_place(file: str, old: str, new: str, place: str) -> None:
    files = dict(pack_to_files(builtin_pack("it_help_desk")))
    assert old.encode() in files[file], files[file].decode()[:400]
    files[file] = files[file].replace(old.encode(), new.encode(), 1)
    with pytest.raises(PackInvalidError) as caught:
        pack_from_files(files)
    assert any(place in str(fault) for fault in caught.value.faults), [str(fault) for fault in caught.value.faults]


def test_all_faults_of_a_pack_are_told_at_once() -> None:
    files = dict(pack_to_files(builtin_pack("it_help_desk")))
    files["arcs.yaml"] = files["arcs.yaml"].replace(b"complexity: 6", b"complexity: 66")
    files["topics.yaml"] = b"- key: [broken"
    files["notes.txt"] = b"hello"
    del files["personas.yaml"]
    with pytest.raises(PackInvalidError) as caught:
        pack_from_files(files)
    assert {fault.file for fault in caught.value.faults} == {"arcs.yaml", "topics.yaml", "notes.txt", "personas.yaml"}


def test_a_yaml_tag_cannot_make_an_object() -> None:
    files = dict(pack_to_files(builtin_pack("it_help_desk")))
    files["pack.yaml"] = b"!!python/object/apply:os.system ['true']"
    with pytest.raises(PackInvalidError, match=r"pack\.yaml"):
        pack_from_files(files)
