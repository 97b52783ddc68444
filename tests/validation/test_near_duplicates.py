"""Near-duplicates: what is planted is found, nothing is reported that was not compared word by word."""

import io
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.records import Message, Record
from brightrun.validation import ValidationCancelled, validate
from brightrun.validation.near_duplicates import (
    NearDuplicates,
    banding,
    near_duplicate_groups,
    triples_of,
)
from brightrun.validation.seen import SeenMap
from brightrun.validation.thresholds import Thresholds

VOCABULARY = ["".join(letters) for letters in zip(*[iter("abcdefghijklmnopqrstuvwxyz" * 460)] * 3, strict=False)]


def words(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(VOCABULARY) + str(rng.randrange(20)) for _ in range(count)]


def record(number: int, said: list[str], conversation: str | None = None) -> Record:
    half = len(said) // 3
    return Record(
        conversation or f"c{number}",
        number,
        number + 1,
        number * 100,
        [
            Message("system", "You are Rosa, who has run the workshop at Mill Bridge for twenty years. " * 5),
            Message("user", " ".join(said[:half])),
            Message("assistant", " ".join(said[half:]), True),
        ],
    )


def said_by(one: Record) -> set[int]:
    return triples_of(message.content for message in one.messages if message.role != "system")


def jaccard(one: Record, other: Record) -> float:
    a, b = said_by(one), said_by(other)
    return len(a & b) / len(a | b)


def planted(count: int, copies: int, seed: int = 5) -> Iterator[tuple[Record, int | None]]:
    """Conversations of 30 to 300 words, and copies of some with up to a twentieth of their words changed."""
    rng = random.Random(seed)
    texts = [words(rng, rng.randint(30, 300)) for _ in range(count)]
    for number, text in enumerate(texts):
        yield record(number, text), None
    for number in range(copies):
        original = rng.randrange(count)
        text = list(texts[original])
        for _ in range(rng.randint(1, 1 + len(text) // 20)):
            text[rng.randrange(len(text))] = rng.choice(VOCABULARY)
        yield record(count + number, text), original


def test_recall_and_precision_on_planted_pairs() -> None:
    records = list(planted(2_000, 400))
    check = NearDuplicates(0.8)
    for one, _ in records:
        check.look(one)
    matches = list(check.matches())
    group_of = {id_: number for number, group in enumerate(check.groups()) for id_ in group}
    near = [
        (one.conversation_id, f"c{original}")
        for one, original in records
        if original is not None and jaccard(one, records[original][0]) >= 0.8
    ]
    assert len(near) > 200
    found = sum(group_of.get(one, -1) == group_of.get(other, -2) for one, other in near)
    assert found / len(near) >= 0.95
    for match in matches:  # verified: every one is right, and its similarity is the true one
        one, other = records[match.earlier.line - 1][0], records[match.later.line - 1][0]
        assert match.similarity == pytest.approx(jaccard(one, other), abs=1e-3)
        assert match.similarity >= 0.8


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_banding_finds_what_lies_on_the_threshold(similarity: float) -> None:
    bands, rows = banding(similarity)
    assert bands * rows <= 128
    assert 1 - (1 - similarity**rows) ** bands >= 0.98


def test_a_shared_system_prompt_makes_no_near_duplicate() -> None:
    rng = random.Random(1)
    assert near_duplicate_groups(record(n, words(rng, 12)) for n in range(200)) == []


def test_parts_of_one_conversation_are_never_compared() -> None:
    rng = random.Random(2)
    said = words(rng, 60)
    records = [
        record(0, said, "long"),
        record(1, words(rng, 50), "other"),
        record(2, [*said, "more"], "long"),  # again, after another one
        record(3, [*said[:-1], "else"], "third"),
    ]
    assert near_duplicate_groups(records) == [["long", "third"]]


def test_pairs_that_repeat_their_history_are_one_conversation() -> None:
    rng = random.Random(3)

    def pairs(name: str, turns: list[list[str]], first: int) -> list[Record]:
        messages: list[Message] = []
        records = []
        for number in range(0, len(turns), 2):
            user, answer = (" ".join(turn) for turn in turns[number : number + 2])
            messages = [*messages, Message("user", user), Message("assistant", answer, True)]
            records.append(Record(name, first + number, first + number + 1, 0, list(messages)))
        return records

    turns = [words(rng, 30) for _ in range(8)]
    changed = [list(turn) for turn in turns]
    changed[5][4] = "otherwise"
    check = NearDuplicates()
    for one in (*pairs("a", turns, 0), *pairs("b", changed, 20), *pairs("c", [words(rng, 30)] * 2, 40)):
        check.look(one)
    (match,) = check.matches()
    assert (match.earlier.id, match.later.id, match.exact) == ("a", "b", False)
    assert match.later.line == 21  # where the conversation begins


def test_groups_hold_exact_copies_too_and_join_through_one_another() -> None:
    rng = random.Random(4)
    said = words(rng, 100)
    near, further = list(said), list(said)
    near[50] = "changed"
    further[50], further[20] = "changed", "again"
    records = [record(n, text) for n, text in enumerate([said, words(rng, 100), near, list(said), further])]
    assert near_duplicate_groups(records) == [["c0", "c2", "c3", "c4"]]


def test_text_without_spaces_is_compared_by_characters() -> None:
    text = "今週がどれほど大変だったか、よくわかります。まず一つだけ、今日できることを見てみましょう。" * 2
    one = Record("a", 0, 1, 0, [Message("user", "x"), Message("assistant", text, True)])
    other = Record("b", 1, 2, 0, [Message("user", "x"), Message("assistant", text + "はい。", True)])
    assert near_duplicate_groups([one, other]) == [["a", "b"]]


def test_a_crowd_of_copies_is_one_group_without_comparing_all_with_all() -> None:
    rng = random.Random(6)
    said = words(rng, 40)
    records = [record(n, [*said, f"number{n}"]) for n in range(1_500)]
    assert [len(group) for group in near_duplicate_groups(records)] == [1_500]


def as_lines(records: list[Record]) -> bytes:
    return b"".join(
        json.dumps(
            {
                "conversation_id": one.conversation_id,
                "messages": [{"role": message.role, "content": message.content} for message in one.messages],
            }
        ).encode()
        + b"\n"
        for one in records
    )


def test_the_report_names_the_other_line_and_the_similarity() -> None:
    rng = random.Random(7)
    said = words(rng, 120)
    near = list(said)
    near[60] = "changed"
    texts = [words(rng, 80), said, words(rng, 80), near, said, [*(word.upper() for word in said[:-1]), said[-1] + "!"]]
    report = validate(io.BytesIO(as_lines([record(n, text) for n, text in enumerate(texts)])), checks="full")
    found = [(issue.line, issue.code, issue.message) for issue in report.issues]
    assert [(line, code) for line, code, _ in found] == [
        (4, "near_duplicate"),
        (5, "duplicate_record"),
        (6, "near_duplicate"),
    ]
    assert "line 2" in found[0][2]
    assert "95 %" in found[0][2] or "94 %" in found[0][2]
    assert "but for case, punctuation or order" in found[2][2]
    assert "near_duplicates" in report.checks_run
    assert report.thresholds["near_duplicate_similarity"] == 0.8
    stricter = Thresholds(near_duplicate_similarity=0.99)
    again = validate(
        io.BytesIO(as_lines([record(n, t) for n, t in enumerate(texts)])), checks="full", thresholds=stricter
    )
    assert again.by_code == {"duplicate_record": 1, "near_duplicate": 1}


def test_held_out_conversations_that_training_sees_are_named() -> None:
    rng = random.Random(8)
    said, other = words(rng, 120), words(rng, 120)
    near = list(said)
    near[60] = "changed"
    records = [record(n, text) for n, text in enumerate([said, other, near, list(other), words(rng, 90)])]
    data = as_lines(records)
    report = validate(io.BytesIO(data), checks="full", heldout={"c2", "c1", "c4"})
    crossing = [(issue.line, issue.message) for issue in report.issues if issue.code == "held_out_duplicate"]
    assert [line for line, _ in crossing] == [2, 3]
    assert "exactly" in crossing[0][1]
    assert "'c3' at line 4" in crossing[0][1]
    assert "'c0' at line 1" in crossing[1][1]
    assert "split_leakage" in report.checks_run
    unasked = validate(io.BytesIO(data), checks="full")
    assert "split_leakage" in unasked.checks_skipped
    # Both sides of every pair held out: nothing crosses.
    together = validate(io.BytesIO(data), checks="full", heldout={"c0", "c1", "c2", "c3"})
    assert "held_out_duplicate" not in together.by_code


def test_nothing_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = as_lines([one for one, _ in planted(600, 60)])
    small = 1 << 16
    kept = validate(io.BytesIO(data), checks="full")
    spilled = validate(io.BytesIO(data), checks="full", compare_memory_bytes=small)
    assert spilled.by_code == kept.by_code
    assert spilled.by_code["near_duplicate"] > 30
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValidationCancelled):
        validate(
            io.BytesIO(data),
            checks="full",
            compare_memory_bytes=small,
            cancelled=iter([False] * 3 + [True] * 99).__next__,
        )
    assert list(tmp_path.iterdir()) == []


def test_seen_hashes_go_to_a_file_beyond_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spilled, kept = SeenMap(limit=1 << 16), SeenMap()
    rng = random.Random(9)
    entries: dict[int, int] = {rng.getrandbits(63) - (1 << 62): n for n in range(30_000)}
    for key, value in entries.items():
        spilled.put(key, value)
        kept.put(key, value)
    assert spilled.spilled
    assert not kept.spilled
    assert all(spilled.get(key) == kept.get(key) == value for key, value in entries.items())
    assert len(spilled) == len(kept) == 30_000
    assert spilled.get(5) is None
    assert list(tmp_path.iterdir()) == []


def test_a_very_long_conversation_is_compared_in_parts_of_bounded_size() -> None:
    rng = random.Random(10)
    said = words(rng, 200_000)
    near = list(said)
    near[100] = "changed"
    near[150_000] = "changed"
    plain: list[Any] = [record(0, said), record(1, words(rng, 100)), record(2, near)]
    assert near_duplicate_groups(plain) == [["c0", "c2"]]
