"""The stored list of findings: every filter answers what reading the whole list would, and the CSV is safe to open."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from brightrun.datasets import issue_list
from brightrun.datasets.issue_list import IssueIndex, IssueListWriter, as_cell
from brightrun.formats.issues import Issue, make_issue

CODES = ("broken_json", "missing_field", "null_value", "crlf_lines", "duplicate_record")


def ranges(path: Path, asked: list[int] | None = None) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        if asked is not None:
            asked.append(length)
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    return read


def write(folder: Path, issues: list[Issue]) -> IssueListWriter:
    writer = IssueListWriter(folder, "list")
    with writer:
        for issue in issues:
            writer.write(issue)
        writer.finish()
    return writer


@pytest.fixture
def issues() -> list[Issue]:
    chance = random.Random(7)
    line, made = 1, []
    for number in range(3_000):
        line += chance.choice((0, 0, 1, 2, 30))
        text = f"Finding {number} " + "é" * chance.randrange(200)
        made.append(make_issue(chance.choice(CODES), text, line=line, byte_offset=number))
    return made


def test_every_page_of_every_filter_is_what_the_whole_list_says(
    tmp_path: Path, issues: list[Issue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issue_list, "FENCE_EVERY", 64)
    written = write(tmp_path, issues)
    index = IssueIndex(ranges(written.index), ranges(written.jsonl))
    assert index.count == 3_000
    for codes in (None, {"crlf_lines"}, {"broken_json", "crlf_lines"}, set(CODES), {"null_target"}, set[str]()):
        wanted = [issue for issue in issues if codes is None or issue.code in codes]
        for offset, limit in ((0, 25), (25, 100), (2_990, 25), (len(wanted) - 1, 25), (5_000, 25)):
            if offset >= 0:
                assert index.page(codes, offset, limit) == wanted[offset : offset + limit], (codes, offset)
    for line in {1, issues[0].line, issues[1500].line, issues[-1].line, issues[-1].line + 1, 3, 4, 5, 6, 7}:
        assert [issue for _offset, issue in index.of_line(line)] == [issue for issue in issues if issue.line == line]


def test_a_line_with_more_findings_than_a_block_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue_list, "FENCE_EVERY", 16)
    issues = [make_issue("missing_field", str(number), line=5 if 3 <= number < 90 else number) for number in range(100)]
    issues.sort(key=lambda issue: issue.line)
    written = write(tmp_path, issues)
    index = IssueIndex(ranges(written.index), ranges(written.jsonl))
    for line in (4, 5, 6, 90, 99):
        assert [issue for _offset, issue in index.of_line(line)] == [issue for issue in issues if issue.line == line]


def test_a_page_is_answered_from_a_few_kilobytes(tmp_path: Path, issues: list[Issue]) -> None:
    written = write(tmp_path, issues)
    of_index, of_list = list[int](), list[int]()
    index = IssueIndex(ranges(written.index, of_index), ranges(written.jsonl, of_list))
    index.page(None, 2_000, 25)
    assert sum(of_index) <= (64 << 10) + 25 * 8
    assert sum(of_list) < 64 << 10


def test_a_list_without_findings_and_a_file_that_is_no_index(tmp_path: Path) -> None:
    written = write(tmp_path, [])
    index = IssueIndex(ranges(written.index), ranges(written.jsonl))
    assert index.page(None, 0, 25) == []
    assert list(index.of_line(1)) == []
    assert index.neighbours(5, None) == (None, None)
    with pytest.raises(ValueError, match="not an index"):
        IssueIndex(ranges(written.csv), ranges(written.jsonl))


def test_no_cell_of_the_csv_is_a_formula_and_nothing_else_changes(tmp_path: Path) -> None:
    texts = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "  =1", "\tx", 'plain, with "quotes"\nand a line', "é –"]
    written = write(tmp_path, [make_issue("missing_field", text, excerpt=text, path="a") for text in texts])
    with written.csv.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["message"] for row in rows] == [as_cell(text) for text in texts]
    assert [row["message"].startswith("'") for row in rows] == [True] * 6 + [False] * 2
    assert rows[6]["message"] == texts[6]
    assert written.csv.read_bytes().startswith(b"\xef\xbb\xbfline,byte_offset,path,code,severity,")
