"""The fault corpus: each fault is found at its exact place with its code, and nothing else is called wrong."""

import copy
import io
import random
import re
from pathlib import Path
from typing import Any

import clean_files
import pytest
from clean_files import File
from fault_corpus import NO_OBJECTS, OBJECT_FAULTS, TEXT_FAULTS, TextFault, as_json

from brightrun.formats.codes import CODES
from brightrun.formats.reader import read_records
from brightrun.formats.records import Record
from brightrun.validation import Issue, validate

# Codes that no entry of the corpus makes, and the test that does.
HERE = {
    "test_what_is_said_about_the_whole_file": (
        *("empty_file", "binary_file", "wrong_encoding", "unknown_format", "format_mismatch", "no_records"),
        *("nothing_to_train", "byte_order_mark", "crlf_lines", "history_repeats_input", "meta_count_mismatch"),
        "misplaced_meta",
    ),
    "test_a_bracket_or_quote_too_few_or_too_many_costs_no_record_but_its_own": ("broken_structure",),
    "test_a_record_above_the_limit_is_named_and_the_rest_is_read": ("record_too_long",),
    "test_a_record_that_is_no_object_is_named": ("not_an_object",),
    "test_a_record_of_another_format_is_named": ("mixed_formats",),
    "test_an_account_and_a_social_security_number_are_found_in_the_field_that_holds_them": (
        *("bank_account", "social_security_number"),
    ),
    "test_ids_and_records_that_stand_twice_are_found_at_the_second": ("duplicate_id", "duplicate_record"),
}
# Groups of the catalogue that modules of their own test: they need a model, or look at what the texts say.
TESTED_APART = {
    "Lines and JSON": ("test_repeated_keys",),
    "The chosen model": ("test_model_checks",),
    "Conversations compared": ("test_near_duplicates",),
    "What the replies say": ("test_content_replies",),
    "Secrets and personal data": ("test_content_sensitive",),
}
COUNT = 6
Found = list[tuple[int, int, str, str]]


def issues_of(data: bytes, checks: Any = "structure", **options: Any) -> list[Issue]:
    report = validate(io.BytesIO(data), checks=checks, max_issues=None, **options)
    return [issue for issue in report.issues if issue.code not in ("crlf_lines", "byte_order_mark")]


def places(issues: list[Issue]) -> Found:
    return [(issue.line, issue.byte_offset, issue.path, issue.code) for issue in issues]


def within(path: str, below: str) -> str:
    return f"{path}.{below}" if path and below else path or below


@pytest.mark.parametrize("kind", clean_files.KINDS)
def test_a_clean_file_has_nothing_to_be_said_about(kind: str) -> None:
    for layout in clean_files.LAYOUTS:
        file = clean_files.make(kind, layout, random.Random(kind + layout))
        report = validate(io.BytesIO(file.data), checks="default")
        assert report.by_code == ({"crlf_lines": 1} if layout == "crlf" else {})
        assert report.training_ready
        assert (report.format, report.records) == (file.format, len(file.texts))


@pytest.mark.parametrize("name", OBJECT_FAULTS)
def test_a_fault_in_the_fields_is_found_at_its_place_and_nothing_else(name: str) -> None:
    kind, change = OBJECT_FAULTS[name]
    format_id, maker = clean_files.KINDS[kind]
    for layout in ("lines", random.Random(name).choice(clean_files.LAYOUTS)):
        rng = random.Random(name + layout)
        objects = [maker(rng, number) for number in range(COUNT)]
        spoilt = rng.randrange(1, COUNT)
        expected = change(rng, objects[spoilt])
        file = clean_files.render(format_id, objects, layout)
        line, offset, path = file.places[spoilt]
        assert places(issues_of(file.data)) == [(line, offset, within(path, where), code) for code, where in expected]


# In the full file the conversation has the id, not the pair.
IN_PAIRS = [name for name, (kind, _) in OBJECT_FAULTS.items() if kind == "v4" and "conversation_id" not in name]


@pytest.mark.parametrize("name", IN_PAIRS)
def test_a_fault_in_a_pair_of_the_full_file_has_its_path_into_the_conversation(name: str) -> None:
    rng = random.Random(name)
    indent = rng.choice((None, 2))
    document = clean_files.full_document(rng)
    conversation = rng.randrange(3)
    pairs = document["conversations"][conversation]["training_pairs"]
    number = rng.randrange(len(pairs))
    expected = OBJECT_FAULTS[name][1](rng, pairs[number])
    file = clean_files.render_document("brightrun_lora_v4", document, indent)
    where = f"conversations[{conversation}].training_pairs[{number}]"
    line, offset, path = next(place for place in file.places if place.path == where)
    assert places(issues_of(file.data)) == [(line, offset, within(path, below), code) for code, below in expected]


def spoil(file: File, number: int, text: bytes, layout: str) -> File:
    return clean_files.render(file.format, [*file.texts[:number], text, *file.texts[number + 1 :]], layout)


@pytest.mark.parametrize("fault", TEXT_FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("layout", ["lines", "crlf", "array", "array_of_lines"])
def test_a_fault_of_the_bytes_is_found_at_its_byte_and_the_other_records_are_read(
    fault: TextFault, layout: str
) -> None:
    for kind in ("v4", "openai", "sharegpt", "alpaca", "preference", "kto"):
        _spoil_and_look(fault, layout, kind)


def _spoil_and_look(fault: TextFault, layout: str, kind: str) -> None:
    rng = random.Random(f"{fault.__name__} {layout} {kind}")
    file = clean_files.make(kind, layout, rng, COUNT)
    number = rng.randrange(1, COUNT - 1)
    text, code, byte = fault(rng, file.texts[number])
    spoilt = spoil(file, number, text, layout)
    report = validate(io.BytesIO(spoilt.data), checks="structure")
    found = [issue for issue in report.issues if issue.code != "crlf_lines"]
    line, offset, path = spoilt.places[number]
    assert [(issue.line, issue.path, issue.code) for issue in found] == [(line, path, code)]
    if byte >= 0 and not (fault.__name__ == "cut_in_the_middle" and layout.startswith("array")):
        assert found[0].byte_offset == offset + byte
    assert report.records == COUNT
    assert validate(io.BytesIO(file.data)).training_pairs > report.training_pairs > 0


@pytest.mark.parametrize("text", NO_OBJECTS, ids=str)
@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
def test_a_record_that_is_no_object_is_named(text: bytes, layout: str) -> None:
    rng = random.Random(str(text) + layout)
    file = clean_files.make(rng.choice(list(clean_files.KINDS)), layout, rng, COUNT)
    number = rng.randrange(1, COUNT)
    spoilt = spoil(file, number, text, layout)
    assert places(issues_of(spoilt.data)) == [(*spoilt.places[number], "not_an_object")]


@pytest.mark.parametrize("layout", ["lines", "array"])
@pytest.mark.parametrize(("kind", "other"), [("v4", "openai"), ("openai", "alpaca"), ("sharegpt", "preference")])
def test_a_record_of_another_format_is_named(kind: str, other: str, layout: str) -> None:
    rng = random.Random(kind + other + layout)
    file = clean_files.make(kind, layout, rng, COUNT)
    number = rng.randrange(1, COUNT)
    spoilt = spoil(file, number, as_json(clean_files.KINDS[other][1](rng, 0)), layout)
    assert places(issues_of(spoilt.data)) == [(*spoilt.places[number], "mixed_formats")]


@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
def test_a_record_above_the_limit_is_named_and_the_rest_is_read(layout: str) -> None:
    rng = random.Random(layout)
    file = clean_files.make("openai", layout, rng, COUNT)
    number = rng.randrange(COUNT)
    long = as_json({"messages": [{"role": "user", "content": "w" * 300_000}]})
    spoilt = spoil(file, number, long, layout)
    assert places(issues_of(spoilt.data, max_record_bytes=100_000)) == [(*spoilt.places[number], "record_too_long")]


def test_a_pair_above_the_limit_in_the_full_file_is_named() -> None:
    document = clean_files.full_document(random.Random(1))
    document["conversations"][1]["training_pairs"][0]["emotional_context"] = "w" * 300_000
    file = clean_files.render_document("brightrun_lora_v4", document, None)
    place = next(place for place in file.places if place.path == "conversations[1].training_pairs[0]")
    assert places(issues_of(file.data, max_record_bytes=100_000)) == [(*place, "record_too_long")]


def test_ids_and_records_that_stand_twice_are_found_at_the_second() -> None:
    for kind, field in (("openai", "id"), ("sharegpt", "id"), ("v3", "conversation_id"), ("v4", "id")):
        rng = random.Random(kind)
        format_id, maker = clean_files.KINDS[kind]
        objects = [maker(rng, number) for number in range(COUNT)]
        objects[4][field] = objects[1][field]
        if kind == "v4":
            objects[4]["conversation_id"] = objects[1]["conversation_id"]
        file = clean_files.render(format_id, objects, "lines")
        line, offset, _ = file.places[4]
        assert places(issues_of(file.data, "default")) == [(line, offset, field, "duplicate_id")]
    objects = [clean_files.completion(random.Random(n), n) for n in (1, 2, 3, 2)]
    file = clean_files.render("prompt_completion", objects, "pretty")
    assert places(issues_of(file.data, "default")) == [(*file.places[3], "duplicate_record")]


@pytest.mark.parametrize("layout", ["array", "array_of_lines", "pretty"])
@pytest.mark.parametrize("kind", ["alpaca", "sharegpt"])
def test_a_bracket_or_quote_too_few_or_too_many_costs_no_record_but_its_own(kind: str, layout: str) -> None:
    rng = random.Random(kind + layout)
    file = clean_files.make(kind, layout, rng, COUNT)
    whole = sum(
        len(record.messages) > 0 for record in read_records(io.BytesIO(file.data)) if isinstance(record, Record)
    )
    first, last = file.places[0].byte_offset, len(file.data) - 3
    marks = [n for n in range(first, last) if file.data[n : n + 1] in b'{}[]":,' and not _in_text(file.data, n)]
    for place in rng.sample(marks, 60):
        mark = file.data[place : place + 1]
        for spoilt in (file.data[:place] + file.data[place + 1 :], file.data[:place] + mark + file.data[place:]):
            items = list(read_records(io.BytesIO(spoilt)))
            assert sum(isinstance(item, Record) for item in items) >= whole - 1
            errors = [item for item in items if isinstance(item, Issue) and item.severity == "error"]
            assert 1 <= len(errors) <= 3
            assert {error.code for error in errors} <= {*BROKEN, "unknown_role", "missing_field", "wrong_type"}


BROKEN = ("broken_json", "broken_structure", "not_an_object")


def _in_text(data: bytes, place: int) -> bool:
    """Whether a byte stands within a JSON text; its quotes do not."""
    texts = re.finditer(rb'"((?:[^"\\]|\\.)*)"', data)
    return any(text.start(1) <= place < text.end(1) for text in texts)


def test_what_an_array_still_holds_after_a_place_that_cannot_be_followed_is_said() -> None:
    file = clean_files.make("alpaca", "array", random.Random(1), COUNT)
    end = file.places[4].byte_offset
    report = validate(io.BytesIO(file.data[:end] + b"}, and so on"), checks="structure")
    (issue,) = report.issues
    assert (issue.code, issue.line, issue.byte_offset) == ("broken_structure", 5, end)
    assert "Nothing after it was checked" in issue.message
    assert report.records == 4


def test_every_code_of_the_catalogue_is_made_by_the_corpus() -> None:
    made = {code for codes in HERE.values() for code in codes}
    made |= {"broken_json", "invalid_utf8", "lone_surrogate", "nesting_too_deep"}  # TEXT_FAULTS
    for name, (kind, change) in OBJECT_FAULTS.items():
        made |= {code for code, _ in change(random.Random(name), clean_files.KINDS[kind][1](random.Random(name), 1))}
    made.add("cannot_be_labelled")  # raised by templates that change what was said: formats/test_chat_labels.py
    for code, entry in CODES.items():
        modules = TESTED_APART.get(entry.group, ())
        apart = "".join(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8") for module in modules)
        assert code in made or f'"{code}"' in apart, code
    assert HERE.keys() <= globals().keys()


def test_what_is_said_about_the_whole_file() -> None:
    pair = clean_files.v4(random.Random(1))
    header = b'{"_meta": {"total_pairs": 7}}\n'
    good = as_json(pair) + b"\n"
    for data, code, place in (
        (b"", "empty_file", (1, 0, "")),
        (b"\n \n", "empty_file", (1, 0, "")),
        (b"PK\x03\x04 and more", "binary_file", (1, 0, "")),
        (good.decode().encode("utf-16"), "wrong_encoding", (1, 0, "")),
        (b"[]", "no_records", (1, 0, "")),
        (header, "no_records", (1, 0, "")),
        (header + good, "meta_count_mismatch", (1, 0, "_meta.total_pairs")),
        (good + header, "misplaced_meta", (2, len(good), "_meta")),
        (b'{"colour": "red"}\n', "unknown_format", (1, 0, "")),
    ):
        assert [(i.line, i.byte_offset, i.path) for i in issues_of(data) if i.code == code] == [place], code
    user_turn = as_json({**pair, "target_response": None, "turn_number": pair["turn_number"] - 1})
    assert [issue.code for issue in issues_of(user_turn)] == ["null_target", "nothing_to_train"]
    repeated = copy.deepcopy(pair)
    repeated["conversation_history"].append({"role": "user", "content": pair["current_user_input"]})
    assert [issue.code for issue in issues_of(as_json(repeated))] == ["history_repeats_input"]
    assert [issue.code for issue in issues_of(good, format="sharegpt")] == ["format_mismatch"]
    marked = validate(io.BytesIO(b"\xef\xbb\xbf" + good.replace(b"\n", b"\r\n")), checks="structure")
    assert marked.by_code == {"byte_order_mark": 1, "crlf_lines": 1}
    lone = good.replace(b"You teach", b"\\ud83d teach")
    assert [issue.code for issue in issues_of(good + lone)] == ["lone_surrogate"]


def test_an_account_and_a_social_security_number_are_found_in_the_field_that_holds_them() -> None:
    record = clean_files.completion(random.Random(1))
    for text, code in (("DE89 3704 0044 0532 0130 00", "bank_account"), ("SSN 219-09-9998", "social_security_number")):
        spoilt = as_json({**record, "completion": f"It is {text}, she said."})
        assert [(issue.path, issue.code) for issue in issues_of(spoilt, "full")] == [("completion", code)]


def test_many_faults_in_one_file_are_all_found_in_its_order() -> None:
    for kind in ("openai", "v4", "sharegpt", "alpaca", "preference", "kto"):
        changes = [change for fault_kind, change in OBJECT_FAULTS.values() if fault_kind == kind]
        format_id, maker = clean_files.KINDS[kind]
        rng = random.Random(kind)
        objects = [maker(rng, number) for number in range(2 * len(changes) + 1)]
        expected = {2 * n + 1: change(rng, objects[2 * n + 1]) for n, change in enumerate(changes)}
        file = clean_files.render(format_id, objects, "lines")
        assert places(issues_of(file.data)) == [
            (file.places[number].line, file.places[number].byte_offset, where, code)
            for number, found in expected.items()
            for code, where in found
        ]


def test_the_corpus_has_far_more_than_sixty_faults_over_all_formats() -> None:
    assert len(OBJECT_FAULTS) + len(TEXT_FAULTS) > 120
    formats = {clean_files.KINDS[kind][0] for kind, _ in OBJECT_FAULTS.values()}
    assert formats | {"enriched_conversation"} == {format_id for format_id, _ in clean_files.KINDS.values()}
