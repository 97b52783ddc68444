"""Repair: each fixable finding is gone afterwards, nothing else is changed, and every change is named."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from repair_cases import CASES, ODD, OTHER, PREFERENCE, Case, chat, lines, pair

from brightrun.formats.codes import CODES
from brightrun.formats.detect import detect
from brightrun.validation import validate
from brightrun.validation.repair import MENDABLE, Choice, repair
from brightrun.validation.repair_records import Change


def test_every_fixable_code_has_a_repair_and_a_case() -> None:
    fixable = {name for name, code in CODES.items() if code.fixable}
    assert fixable <= MENDABLE
    assert {case.code for case in CASES} == MENDABLE
    assert MENDABLE - fixable == {"invalid_label", "broken_json", "unknown_role", "system_not_first"}, "only in part"


def mended(folder: Path, data: bytes, choice: Choice | None = None) -> tuple[bytes, list[Change]]:
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_bytes(data)
    changes: list[Change] = []
    result = repair(source, target, choice or Choice(), log=changes.append)
    assert result.changes == len(changes)
    assert source.read_bytes() == data
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    return target.read_bytes(), changes


def by_code(folder: Path, data: bytes) -> dict[str, int]:
    (folder / "check.jsonl").write_bytes(data)
    return validate(folder / "check.jsonl").by_code


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_repair_mends_its_finding_and_touches_nothing_else(case: Case, tmp_path: Path) -> None:
    assert by_code(tmp_path, case.before).get(case.code)
    out, changes = mended(tmp_path, case.before, Choice(codes=[case.code]))
    assert out == case.after
    assert {change.code for change in changes} == {case.code}
    assert all(change.before != change.after for change in changes)
    assert case.code not in by_code(tmp_path, out)
    again, none = mended(tmp_path, out)
    assert (again, none) == (out, [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_code_that_was_not_chosen_is_left_alone(case: Case, tmp_path: Path) -> None:
    out, changes = mended(tmp_path, case.before, Choice(codes=MENDABLE - {case.code}))
    assert (out, changes) == (case.before, [])


def test_all_repairs_of_a_row_and_of_a_file_apply_together(tmp_path: Path) -> None:
    faulty = (
        b'{"id": 7.0, "messages": [{"role": "system", "content": ""}, {"role": "User:", "content": "a\\u0007 X", '
        b'"weight": 1}, {"role": "assistant", "content": "One.\\\\n\\\\nTwo.</s>", "weight": true}, '
        b'{"role": "user", "content": "Thanks"}], "n": 1e3}'
    ).replace(b"X", b"\xe9")
    out, changes = mended(tmp_path, b"\xef\xbb\xbf" + lines(faulty, OTHER, OTHER).replace(b"\n", b"\r\n"))
    whole = (
        '{"id": 7.0, "messages": [{"role": "user", "content": "a é"}, '
        '{"role": "assistant", "content": "One.\\n\\nTwo.", "weight": 1}], "n": 1e3}'
    )
    assert out == lines(whole.encode(), OTHER)
    assert sorted(change.code for change in changes) == sorted(
        [
            *(
                "byte_order_mark",
                "crlf_lines",
                "duplicate_record",
                "invalid_utf8",
                "control_character",
                "blank_context",
            ),
            *("special_token_in_text", "doubled_escape", "unknown_role", "invalid_weight", "weight_ignored"),
            "last_turn_not_assistant",
        ]
    )


def test_one_finding_alone(tmp_path: Path) -> None:
    data = lines(chat("a\x07", "Clay.\x07"), chat("b\x07"))
    only = Choice(codes=(), issues=[("control_character", 1, "messages[1].content")])
    out, changes = mended(tmp_path, data, only)
    assert out == lines(chat("a\x07", "Clay."), chat("b\x07"))
    assert changes == [Change(1, "messages[1].content", "control_character", "Clay.\\x07", "Clay.")]


def full_file(*conversations: tuple[str, list[bytes]], declared: int) -> bytes:
    listed = b",\n".join(
        b'{"conversation_metadata": {"conversation_id": "%b"}, "training_pairs": [%b]}'
        % (name.encode(), b", ".join(pairs))
        for name, pairs in conversations
    )
    head = b'{"training_file_metadata": {"total_training_pairs": %d, "x": 1.0},\n "conversations": [' % declared
    return head + listed + b"]}\n"


def test_the_full_file_is_mended_pair_by_pair_and_its_count_follows(tmp_path: Path) -> None:
    first, second, bell = pair(), pair(target_response="Mud."), pair(target_response="Mud.\x07")
    data = full_file(
        ("c1", [first, second]), ("c2", [first, pair(current_user_input="Why?")]), ("c3", [bell]), declared=5
    )
    out, changes = mended(tmp_path, data)
    # The only pair of c3 says the same as one before, and stays: a conversation is never emptied.
    assert out == full_file(
        ("c1", [first, second]), ("c2", [pair(current_user_input="Why?")]), ("c3", [bell]), declared=4
    )
    assert [(change.code, change.path) for change in changes] == [
        ("duplicate_record", "conversations[1].training_pairs[0]"),
        ("meta_count_mismatch", "training_file_metadata.total_training_pairs"),
    ]


def test_a_repair_that_would_make_a_record_worse_is_not_made(tmp_path: Path) -> None:
    data = lines(chat("\x07\x07"), chat("a\x07"))
    out, _ = mended(tmp_path, data)
    assert out == lines(chat("\x07\x07"), chat("a"))


def test_a_file_is_never_emptied(tmp_path: Path) -> None:
    data = lines(PREFERENCE % b"Clay.", PREFERENCE % b"Clay.")
    out, changes = mended(tmp_path, data)
    assert out == lines(PREFERENCE % b"Clay.")
    assert len(changes) == 1


def test_lost_bytes_are_marked_not_guessed(tmp_path: Path) -> None:
    data = lines(OTHER, chat("cut X").replace(b"X", b"\xe2\x82"))
    out, _ = mended(tmp_path, data)
    assert out == lines(OTHER, chat("cut X").replace(b"X", "�".encode()))


# Not those of UTF-16: after a removal such a line would make the whole file look like it.
ROWS = {row for case in CASES for row in case.before.split(b"\n") if row.strip() and b"\x00" not in row}
RECORDS = st.sampled_from(sorted(ROWS))
FILES = st.lists(RECORDS | st.just(OTHER) | st.just(ODD) | st.binary(max_size=40), max_size=8).map(b"\n".join)


@settings(max_examples=100, deadline=None)
@given(FILES, st.sampled_from([b"", b"\n"]), st.booleans())
def test_mending_what_was_mended_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, end: bytes, windows: bool
) -> None:
    folder = tmp_path_factory.mktemp("repair")
    data = (data + end).replace(b"\n", b"\r\n") if windows else data + end
    once, _ = mended(folder, data)
    # Of mixed formats the one that most records have is mended; taking copies out can change which that is, and
    # mending a bracket whether the rest is a list.
    first, second = (detect(one, complete=True) for one in (data, once))
    assume((first.format, first.layout) == (second.format, second.layout))
    twice, changes = mended(folder, once)
    assert (twice, changes) == (once, [])


CLEAN = st.lists(
    st.builds(
        lambda user, answer, extra, indent: json.dumps(
            {"x": extra, "messages": [{"role": "user", "content": user}, {"content": answer, "role": "assistant"}]},
            ensure_ascii=indent,
        ).encode(),
        *(st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs")), min_size=1).filter(str.strip),) * 2,
        st.none() | st.floats() | st.integers(),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(CLEAN, st.booleans())
def test_a_file_without_findings_comes_out_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], listed: bool
) -> None:
    folder = tmp_path_factory.mktemp("clean")
    data = b"[\n" + b" ,\n".join(records) + b"]" if listed else b"\n".join(records)
    found = by_code(folder, data)
    out, changes = mended(folder, data)
    if not MENDABLE & found.keys():
        assert (out, changes) == (data, [])


def test_the_log_masks_secrets(tmp_path: Path) -> None:
    data = lines(
        OTHER, chat("Write to \x07anna.weber@pottery-weber.de"), chat("Write to \x07anna.weber@pottery-weber.de")
    )
    out, changes = mended(tmp_path, data)
    assert b"anna.weber@pottery-weber.de" in out
    assert changes
    assert not any("anna.weber@pottery" in change.before + change.after for change in changes)


def test_files_of_nothing_but_python_objects_are_mended_whole(tmp_path: Path) -> None:
    rows = [json.loads(OTHER), json.loads(chat("A second question about the kiln?"))]
    out, changes = mended(tmp_path, "".join(f"{row}\n" for row in rows).encode())
    assert [json.loads(line) for line in out.splitlines()] == rows
    assert [(change.line, change.code) for change in changes] == [(1, "broken_json"), (2, "broken_json")]
