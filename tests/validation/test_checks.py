"""Checks of records and between records: what they say stands where it belongs, however late it is known."""

import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.records import Record
from brightrun.validation import validate
from brightrun.validation.checks import LateRemark, Remark, Reread
from brightrun.validation.spool import IssueSpool

U, A = {"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}


def chat(number: int) -> dict[str, Any]:
    return {"messages": [U, {**A, "content": f"Stoneware {number}."}]}


def as_lines(records: Iterable[Any]) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()


class EverySeventh:
    """Remarks at once."""

    names = ("sevenths",)

    def look(self, record: Record) -> list[Remark]:
        return [Remark("special_token_in_text", "messages[1].content", "Seven.")] if record.line % 7 == 0 else []


class EveryFifth:
    """Remarks when all is over, in the worst order; looks at each record again."""

    names = ("fifths",)

    def __init__(self) -> None:
        self.places: list[tuple[int, int, str, str]] = []
        self.read_again: list[str] = []
        self.could_reread = False

    def look(self, record: Record) -> None:
        if record.line % 5 == 0:
            self.places.append((record.line, record.byte_offset, record.path, record.messages[-1].content))

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        self.could_reread = reread is not None
        for line, offset, path, content in reversed(self.places):
            if reread is not None:
                record = reread(line, offset)
                assert record is not None
                assert (record.line, record.byte_offset) == (line, offset)
                assert record.messages[-1].content == content
            yield LateRemark(line, offset, path, Remark("duplicate_record", "", "Five.", excerpt="five", fixable=True))


def check(source: Any, **options: Any) -> tuple[list[Issue], Any, EveryFifth]:
    heard: list[Issue] = []
    late = EveryFifth()
    report = validate(
        source, record_checks=[EverySeventh()], comparing_checks=[late], issue_sink=heard.append, **options
    )
    return heard, report, late


@pytest.mark.parametrize("level", ["structure", "default", "full"])
def test_report_and_list_are_in_file_order_whoever_spoke_when(tmp_path: Path, level: Any) -> None:
    records: list[Any] = [chat(number) for number in range(1, 2_000)]
    records[499] = "nope"  # line 500: a broken line is shown to no check
    records[34] = chat(1)  # line 35: an exact duplicate, and everybody has something to say
    path = tmp_path / "file.jsonl"
    path.write_bytes(as_lines(records))
    heard, report, late = check(path, checks=level, max_issues=300)
    assert late.could_reread
    keys = [issue.line for issue in heard]
    assert keys == sorted(keys)
    assert {issue.line for issue in heard if issue.message == "Five."} == set(range(5, 2_000, 5)) - {500}
    assert {issue.line for issue in heard if issue.message == "Seven."} == set(range(7, 2_000, 7))
    data = path.read_bytes()
    assert all(data[: issue.byte_offset].count(b"\n") + 1 == issue.line for issue in heard)
    on_35 = [issue.code for issue in heard if issue.line == 35]
    own = [] if level == "structure" else ["duplicate_record"]
    assert on_35 == ["special_token_in_text", *own, "duplicate_record"]
    # Errors come before warnings where not all have room; what is kept of each is the first of the file.
    error = next(issue for issue in heard if issue.severity == "error")
    warnings = [issue for issue in heard if issue.severity == "warning"]
    assert report.issues == sorted([error, *warnings[:299]], key=lambda issue: issue.line)
    assert sum(report.by_code.values()) == len(heard)
    assert {"sevenths", "fifths"} <= set(report.checks_run)


def test_a_stream_can_only_be_read_again_where_somebody_opens_it() -> None:
    data = as_lines(chat(number) for number in range(20))
    assert not check(io.BytesIO(data))[2].could_reread
    assert check(io.BytesIO(data), reopen=lambda: io.BytesIO(data))[2].could_reread


def pair(number: int) -> dict[str, Any]:
    return {"conversation_history": [], "current_user_input": "Which?", "target_response": f"Stoneware {number}."}


@pytest.mark.parametrize(
    "document",
    [
        [chat(number) for number in range(30)],
        {
            "training_file_metadata": {},
            "conversations": [
                {
                    "conversation_metadata": {"conversation_id": f"c{n}"},
                    "training_pairs": [pair(n * 10 + m) for m in range(6)],
                }
                for n in range(5)
            ],
        },
        {"dataset_metadata": {"dataset_name": "x"}, "training_pairs": [pair(number) for number in range(30)]},
    ],
    ids=["array", "v4 full", "enriched"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_records_of_one_document_are_read_again_too(document: Any, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(json.dumps(document, indent=indent).encode())
    heard, _, late = check(path)
    assert late.could_reread
    assert len([issue for issue in heard if issue.message == "Five."]) == 6
    assert all(issue.path for issue in heard if issue.message == "Five.")


def test_what_the_file_says_about_itself_stands_at_its_line_in_the_list(tmp_path: Path) -> None:
    heard: list[Issue] = []
    data = as_lines([{"_meta": {"total_pairs": 9}}, "nope", {**pair(1), "conversation_id": "c", "system_prompt": "s"}])
    validate(io.BytesIO(data), issue_sink=heard.append)
    assert [(issue.line, issue.code) for issue in heard] == [(1, "meta_count_mismatch"), (2, "broken_json")]


def test_a_spool_sorts_more_than_it_holds_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = IssueSpool(held=50)
    lines = [*range(1, 1_000), *range(998, 0, -3), *range(1_000, 1_200), *range(7, 700, 7)]
    for number, line in enumerate(lines):
        spool.add(make_issue("broken_json", str(number), line=line))
    heard: list[Issue] = []
    spool.drain(heard.append)
    assert [issue.line for issue in heard] == sorted(lines)
    assert sorted(int(issue.message) for issue in heard) == list(range(len(lines)))
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_fails_the_run() -> None:
    class Broken(EverySeventh):
        def look(self, record: Record) -> list[Remark]:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        validate(io.BytesIO(as_lines([chat(1)])), record_checks=[Broken()])
