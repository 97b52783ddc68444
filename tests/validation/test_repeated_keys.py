"""A key that stands twice in one object is told, whichever way the file is read, and never lost without a word."""

import io
import json
import random
from pathlib import Path
from typing import Any

import clean_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_validator_fast_way import MAKERS, assert_same, reports

from brightrun.formats.convert import convert
from brightrun.formats.decode import decode
from brightrun.formats.reader import read_records
from brightrun.formats.repeated_keys import may_repeat, repeats_in
from brightrun.validation import validate
from brightrun.validation.repair import repair
from brightrun.validation.repair_records import Change

TEXTS = st.text('ab\\"\n:{}é ’', max_size=6)


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand twice."""


OBJECTS = st.recursive(
    TEXTS | st.integers(-9, 99) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(TEXTS, inner), max_size=5).map(Pairs),
    max_leaves=12,
)


def written(value: Any, *, ascii_only: bool, gap: str) -> str:
    if isinstance(value, Pairs):
        entries = [f"{json.dumps(k, ensure_ascii=ascii_only)}{gap}:{gap}{written(v, ascii_only=ascii_only, gap=gap)}"
                   for k, v in value]  # fmt: skip
        return "{" + f",{gap}".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(entry, ascii_only=ascii_only, gap=gap) for entry in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def repeats_by_another_parser(text: str) -> int:
    found = 0

    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found += len(pairs) - len({key for key, _ in pairs})
        return dict(pairs)

    json.loads(text, object_pairs_hook=hook)
    return found


@settings(max_examples=300)
@given(OBJECTS, st.booleans(), st.sampled_from(["", " ", "\t"]))
def test_the_count_is_never_wrong_when_it_says_no(value: Any, ascii_only: bool, gap: str) -> None:
    text = written(value, ascii_only=ascii_only, gap=gap)
    found = repeats_by_another_parser(text)
    may = may_repeat(text.encode(), decode(text.encode()))
    assert may or not found
    if "\\\\" not in text:
        assert may == (found > 0)


@settings(max_examples=200)
@given(OBJECTS.filter(lambda value: isinstance(value, Pairs)))
def test_what_describes_a_file_is_looked_through_to_any_depth(value: Any) -> None:
    text = written(value, ascii_only=False, gap=" ")
    assert len(list(repeats_in(text.encode(), None))) == repeats_seen(value)


def repeats_seen(value: Any) -> int:
    """Repetitions, but not within a value that another one has replaced."""
    if isinstance(value, Pairs):
        last = dict(value)
        return len(value) - len(last) + sum(map(repeats_seen, last.values()))
    return sum(map(repeats_seen, value)) if isinstance(value, list) else 0


def twice(line: str, key: str, value: str) -> str:
    """The line with another value of a key before the one it has."""
    place = line.index(f'"{key}"')
    gap = " " if '": ' in line else ""
    return f'{line[:place]}"{key}":{gap}{value},{gap}{line[place:]}'


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" , ", " : ")])
@pytest.mark.parametrize("name", MAKERS)
def test_every_way_finds_a_field_that_stands_twice(name: str, separators: tuple[str, str]) -> None:
    good = [json.dumps(MAKERS[name](number), separators=separators) for number in range(0, 300, 3)]
    record = MAKERS[name](400)
    keys = ["role", "content", *record]
    for key in keys:
        for value in ('"another"', "null", "7", '{"a": 1}', '[{"role": "user", "content": "Hm?"}]'):
            bad = twice(json.dumps(record, separators=separators), key, value)
            data = "\n".join([*good, bad, *good]).encode()
            found, _, cleared = reports(data, 3000, checks="structure", format=name)
            report = assert_same(found)
            said = {issue.code for issue in report.issues if issue.line == len(good) + 1}
            assert said & {"duplicate_key", "repeated_key"}, (key, value)
            assert separators[0] == " , " or cleared > 0


@pytest.mark.parametrize("name", MAKERS)
def test_deeper_places_that_are_read_are_looked_at_every_way(name: str) -> None:
    good = [json.dumps(MAKERS[name](number)) for number in range(0, 300, 3)]
    more: dict[str, Any] = {"brightrun_lora_v4": {"training_metadata": {"quality_score": 4}}}.get(name, {})
    for record, key in [
        (MAKERS[name](400, **more), "quality_score" if more else "content"),
        (MAKERS[name](400), "client_persona" if more else "role"),
    ]:
        bad = twice(json.dumps(record), key, '"x"')
        found, _, _ = reports("\n".join([*good, bad, *good]).encode(), 3000, checks="structure", format=name)
        (issue,) = [issue for issue in assert_same(found).issues if issue.line == 101 and issue.code.endswith("_key")]
        assert issue.path.endswith(key)


@settings(max_examples=60)
@given(st.sampled_from(list(MAKERS)), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_no_way_passes_over_any_repetition(name: str, seed: int, ascii_only: bool, compact: bool) -> None:
    rng = random.Random(seed)
    kind = {"brightrun_lora_v4": "v4", "openai_messages": "openai", "brightrun_lora_v3": "v3"}[name]
    make = clean_files.KINDS[kind][1]
    separators = (",", ":") if compact else (", ", ": ")
    written = [json.dumps(make(rng, n), ensure_ascii=ascii_only, separators=separators) for n in range(60)]
    place = rng.randrange(20, 60)
    marks = [n for n in range(len(written[place])) if written[place].startswith(('{"role"', '{"turn"'), n)]
    at = rng.choice(marks) + 1
    key = rng.choice(["role", "content"])
    gap = "" if compact else " "
    written[place] = f'{written[place][:at]}"{key}":{gap}"é",{gap}{written[place][at:]}'
    found, _, _ = reports("\n".join(written).encode(), 2000, checks="structure", format=name)
    report = assert_same(found)
    assert [i.line for i in report.issues if i.code == "duplicate_key"] == [place + 1]


CHAT = '{"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]%s}'
OTHER = CHAT.replace("What?", "How?")


def test_both_values_are_shown_and_no_record_comes_out() -> None:
    data = CHAT.replace('"content": "That."', '"content": "This.", "content": "That."') % ""
    report = validate(io.BytesIO((data + "\n" + CHAT % "").encode()))
    (issue,) = report.issues
    assert (issue.code, issue.severity, issue.line) == ("duplicate_key", "error", 1)
    assert issue.path == "messages[1].content"
    assert data[issue.byte_offset :].startswith('"content": "That."')
    assert "This." in issue.excerpt
    assert "That." in issue.excerpt
    assert not report.training_ready
    assert report.training_pairs == 1
    assert sum(hasattr(item, "messages") for item in read_records(io.BytesIO(data.encode()))) == 0


def test_the_same_value_twice_is_mended_and_another_one_is_not(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        (CHAT % ', "topic": "clay", "topic": "clay"') + "\n" + (OTHER % ', "topic": "clay", "topic": "kiln"') + "\n"
    )
    changes: list[Change] = []
    repair(source, target, log=changes.append)
    assert [(change.line, change.path, change.code) for change in changes] == [(1, "topic", "repeated_key")]
    first, second = target.read_text().splitlines()
    assert first == CHAT % ', "topic": "clay"'
    assert second == OTHER % ', "topic": "clay", "topic": "kiln"'


def test_converting_names_the_value_that_is_not_taken(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    two = CHAT.replace('"user", ', '"user", "content": "Why?", ') % ""
    source.write_text((CHAT % ', "topic": "clay", "topic": "kiln"') + "\n" + two + "\n")
    converted = convert(source, target, "sharegpt")
    assert converted.dropped == {"topic": 2}
    assert [(left.line, "messages[0].content" in left.reason) for left in converted.unwritten] == [(2, True)]


def test_lists_of_a_document_that_stand_twice_are_told() -> None:
    conversation = {
        "conversation_metadata": {"conversation_id": "c"},
        "training_pairs": [MAKERS["brightrun_lora_v4"](1)],
    }
    whole = json.dumps({"training_file_metadata": {}, "consultant_profile": {}, "conversations": [conversation]})
    assert validate(io.BytesIO(whole.encode()), checks="structure").errors_total == 0
    for key in ("conversations", "training_pairs", "conversation_metadata"):
        data = whole.replace(f'"{key}":', f'"{key}": {{"a": 1}}, "{key}":', 1)
        report = validate(io.BytesIO(data.encode()), checks="structure")
        assert "duplicate_key" in report.by_code


def test_a_secret_that_is_a_fields_name_is_masked_in_the_path_too() -> None:
    key = "sk-ant-api03-" + "Zb3kQ9xT7mLw2RvYc8Nd" * 4
    report = validate(io.BytesIO((CHAT % f', "{key}": 1, "{key}": 2').encode()), checks="structure")
    (issue,) = report.issues
    assert issue.code == "repeated_key"
    assert key not in json.dumps(report.to_dict()["issues"])
