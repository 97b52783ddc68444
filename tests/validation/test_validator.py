"""The validator: complete counts, known answers, bounded memory."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.issues import Issue
from brightrun.validation import ESTIMATE, Report, ValidationCancelled, validate
from brightrun.validation.catalogue import CODES, render_catalogue
from brightrun.validation.seen import SeenMap

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the project's sample files are not beside the checkout")

U, A = {"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}


def lines(*records: Any) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records).encode()


def check(data: bytes, **options: Any) -> Report:
    return validate(io.BytesIO(data), **options)


def v3(number: int, *turns: Any) -> dict[str, Any]:
    return {"conversation_id": f"c{number}", "turns": list(turns)}


def distinct(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Question {number}"}, {"role": "assistant", "content": "Yes."}]}


INVALID = lines(
    v3(1, U),
    v3(2),
    {"invalid": "no conversation_id"},
    {"conversation_id": "c3"},
    "This line is not even JSON",
    v3(4, {"role": "user"}),
)


def assert_the_six_faults(report: Report) -> None:
    assert [(issue.line, issue.code, issue.path) for issue in report.issues] == [
        (1, "no_assistant_turn", "turns"),
        (2, "empty_list", "turns"),
        (3, "missing_field", "conversation_id"),
        (4, "missing_field", "turns"),
        (5, "broken_json", ""),
        (6, "missing_field", "turns[0].content"),
    ]
    assert "nothing for a model to learn" in report.issues[0].message
    assert (report.errors_total, report.records, report.conversations) == (6, 6, 0)
    assert not report.training_ready


def test_each_of_six_faulty_lines_is_found() -> None:
    assert_the_six_faults(check(INVALID))


@needs_shared
def test_the_invalid_turns_file_has_exactly_six_faulty_lines() -> None:
    assert_the_six_faults(validate(SHARED / "turns-invalid.jsonl"))


@needs_shared
def test_the_valid_turns_file_has_five_conversations_and_no_error() -> None:
    report = validate(SHARED / "turns-valid.jsonl", estimate_tokens=True)
    assert (report.format, report.conversations, report.training_pairs, report.turns) == (
        "brightrun_lora_v3",
        5,
        10,
        20,
    )
    assert (report.errors_total, report.warnings_total, report.training_ready) == (0, 0, True)
    assert (report.tokens, report.tokens_source) == (346, "estimate:words×1.3")
    assert report.avg_turns_per_conversation == 4.0
    assert [sample["conversation_id"] for sample in report.sample_data] == ["conv_001", "conv_002", "conv_003"]


@needs_shared
@pytest.mark.parametrize("file", sorted(SHARED.glob("*.json*")) if SHARED.is_dir() else [], ids=lambda path: path.name)
def test_no_real_file_has_a_false_error(file: Path) -> None:
    report = validate(file, checks="full")
    assert report.training_ready == (file.name != "turns-invalid.jsonl")


@needs_shared
def test_the_full_v4_file_adds_up() -> None:
    report = validate(SHARED / "v4-full-18-conversations.json")
    assert (report.conversations, report.records, report.training_pairs) == (18, 128, 62)
    assert (report.null_targets, report.turns) == (66, 128)
    assert "meta_count_mismatch" not in report.by_code


@needs_shared
def test_the_v4_pairs_file_counts_pairs_and_turns_apart() -> None:
    report = validate(SHARED / "v4-pairs-12-conversations.jsonl")
    assert (report.conversations, report.records, report.training_pairs, report.turns) == (12, 44, 44, 88)
    (warning,) = [issue for issue in report.issues if issue.severity == "warning"]
    assert "89" in warning.message
    assert "44" in warning.message


def test_tokens_are_null_unless_asked_for() -> None:
    report = check(lines(distinct(1)))
    assert (report.tokens, report.tokens_source, report.avg_tokens_per_turn) == (None, "none", None)


def test_exact_tokens_carry_their_label() -> None:
    report = check(lines(distinct(1)), count_tokens=len, tokens_source="exact:letters")
    assert (report.tokens, report.tokens_source) == (len("Question 1") + len("Yes."), "exact:letters")
    with pytest.raises(ValueError, match="tokens_source"):
        check(b"", count_tokens=len)


def test_the_estimate_rounds_once() -> None:
    report = check(lines(*(distinct(n) for n in range(10))), estimate_tokens=True)
    assert (report.tokens, report.tokens_source) == (39, ESTIMATE)  # 30 words × 1.3


def test_counts_are_complete_where_issues_are_cut() -> None:
    bad = lines(distinct(0), *(["nope"] * 50))
    report = check(bad, max_issues=7)
    assert report.errors_total == 50
    assert [issue.line for issue in report.issues] == list(range(2, 9))
    assert report.issues_truncated
    assert check(bad, max_issues=None).issues_truncated is False


def test_many_infos_never_hide_an_error() -> None:
    pair = {
        "conversation_id": "c",
        "system_prompt": "s",
        "conversation_history": [],
        "current_user_input": "x",
        "target_response": None,
    }
    report = check(lines(*([pair] * 20), "nope", pair), max_issues=5)
    assert report.by_code == {"broken_json": 1, "null_target": 21}
    assert [issue.code for issue in report.issues] == ["null_target"] * 4 + ["broken_json"]


def test_the_sink_gets_every_issue() -> None:
    heard: list[Issue] = []
    report = check(INVALID * 3, max_issues=2, issue_sink=heard.append)
    assert len(heard) == sum(report.by_code.values()) == 18


def test_the_report_is_one_json_object_with_the_agreed_fields() -> None:
    report = json.loads(check(INVALID).to_json())
    assert set(report) >= {
        *("file", "format", "format_reason", "lines", "records", "conversations", "training_pairs", "turns", "tokens"),
        *("tokens_source", "errors_total", "warnings_total", "by_code", "issues", "issues_truncated", "checks_run"),
        *("checks_skipped", "training_ready", "sample_data", "null_targets", "avg_turns_per_conversation"),
    }
    assert set(report["issues"][0]) == {
        *("line", "byte_offset", "path", "code", "severity", "message", "suggestion", "fixable", "excerpt")
    }


def test_exact_duplicates_name_the_first() -> None:
    data = lines(distinct(1), distinct(2), distinct(1))
    report = check(data)
    (issue,) = report.issues
    assert (issue.line, issue.code) == (3, "duplicate_record")
    assert "line 1" in issue.message
    assert report.training_ready
    structure = check(data, checks="structure")
    assert structure.issues == []
    assert "exact_duplicates" in structure.checks_skipped


def test_ids_used_twice_are_named() -> None:
    report = check(lines(v3(1, U, A), v3(1, {**U, "content": "Other?"}, A)))
    (issue,) = report.issues
    assert (issue.line, issue.path, issue.code) == (2, "conversation_id", "duplicate_id")


def test_pairs_of_one_conversation_are_not_duplicates() -> None:
    def pair(number: int) -> dict[str, Any]:
        return {
            "id": f"t{number}",
            "conversation_id": "c",
            "system_prompt": "s",
            "conversation_history": [],
            "current_user_input": f"x{number}",
            "target_response": "y",
        }

    assert check(lines(pair(1), pair(2))).issues == []
    assert check(lines(pair(1), pair(2))).conversations == 1


def test_what_is_not_looked_for_is_named() -> None:
    report = check(lines(distinct(1)))
    assert "near_duplicates" in report.checks_skipped
    assert "exact_duplicates" in report.checks_run
    assert "near_duplicates" in check(lines(distinct(1)), checks="full").checks_run
    with pytest.raises(ValueError, match="structure"):
        check(b"", checks="everything")


def test_samples_are_bounded() -> None:
    long = {"messages": [{"role": "user", "content": "x" * 10_000}, A] * 500}
    report = check(lines(long, long, long, long))
    assert len(report.to_json()) < 400_000
    assert len(report.sample_data) == 3
    assert report.sample_data[0]["messages"][0]["truncated"]
    assert report.sample_data[0]["total_messages"] == 1000


def test_a_report_holds_no_nul_and_nothing_that_grows_with_a_record() -> None:
    nul = {"conversation_id": "c\0", "turns": [{**U, "content": "a\0b"}, A]}
    pair = {"conversation_metadata": {"k\0" * 100_000: "{{x}}"}, "target_response": 5, "current_user_input": "x"}
    for report in (check(lines(nul)), check(lines(pair))):
        text = report.to_json()
        assert "\\u0000" not in text
        assert len(text) < 20_000
    assert check(lines(nul)).by_code == {"control_character": 1}


def test_a_v4_sample_shows_the_longest_pair_with_every_trained_answer_marked() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    def pair(history: list[Any], current: str, target: str) -> dict[str, Any]:
        return {
            "conversation_id": "c",
            "system_prompt": "s",
            "conversation_history": history,
            "current_user_input": current,
            "target_response": target,
        }

    report = check(lines(pair([], "a", "b"), pair(history, "c", "d")))
    (sample,) = report.sample_data
    assert [message["trained"] for message in sample["messages"]] == [False, False, True, False, True]


def test_a_cancelled_validation_stops() -> None:
    with pytest.raises(ValidationCancelled):
        check(lines(distinct(1)), cancelled=lambda: True)


def test_progress_counts_up_to_the_file() -> None:
    data, heard = lines(*(distinct(n) for n in range(50_000))), []
    check(data, progress=heard.append, checks="structure")
    assert heard == sorted(heard)
    assert heard[-1] == len(data)
    assert len(heard) > 2


def test_the_same_records_amount_to_the_same_in_lines_and_array() -> None:
    records = [distinct(n) for n in range(20)] + [{"messages": []}, 5]
    as_lines, as_array = check(lines(*records)), check(json.dumps(records, indent=1).encode())
    for field in ("format", "records", "conversations", "training_pairs", "turns", "by_code", "errors_total"):
        assert getattr(as_lines, field) == getattr(as_array, field)


def test_a_seen_map_keeps_few_bytes_an_entry() -> None:
    seen = SeenMap()
    for number in range(100_000):
        seen.put(hash(str(number)), number)
    assert len(seen) == 100_000
    assert all(seen.get(hash(str(number))) == number for number in range(0, 100_000, 997))
    assert seen.get(hash("absent")) is None
    held = seen._keys.itemsize * len(seen._keys) + seen._values.itemsize * len(seen._values)
    assert held / len(seen) <= 64


def test_the_catalogues_page_is_the_one_in_the_repository() -> None:
    page = (ROOT / "docs" / "reference" / "validation-codes.md").read_text(encoding="utf-8")
    assert page == render_catalogue()
    assert all(f"### `{code}`" in page for code in CODES)


GROWTH = """
import resource, sys
from brightrun.validation import validate

class Endless:
    # Bytes made while they are read: no file, no copy in memory.
    def __init__(self, first, record, last, size):
        self.pieces, self.left = iter(()), size
        self.first, self.record, self.last = first, record * max(1, (1 << 20) // len(record)), last
    def read(self, n=-1):
        if self.first:
            piece, self.first = self.first, b""
            return piece
        if self.left > 0:
            self.left -= len(self.record)
            return self.record
        piece, self.last = self.last, b""
        return piece

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

CHAT = b'{"messages":[{"role":"user","content":"' + b"word " * 400 + b'"},{"role":"assistant","content":"Yes."}]}'
kind, size = sys.argv[1], int(sys.argv[2]) << 20
streams = {
    "lines": (b"", CHAT + b"\\n", b""),
    "array": (b"[" + CHAT, b"," + CHAT, b"]"),
    "one line": (b"", b"x" * 1000, b""),
    "one text": (b'{"messages":[{"role":"user","content":"', b"word " * 200, b'"}]}'),
    "one text in an array": (b'[{"messages":[{"role":"user","content":"', b"word " * 200, b'"}]},' + CHAT + b"]"),
    "brackets": (b"[" + CHAT + b",", b"[" * 1000, b""),
    "a fault on every line": (CHAT + b"\\n", b'{"messages":[{"role":"user"}]}\\n', b""),
}
validate(Endless(*streams["lines"], 1 << 20), checks="structure")
before = peak()
report = validate(Endless(*streams[kind], size), checks="structure")
print(peak() - before, report.file_size, report.by_code, sep="|")
"""


@pytest.mark.parametrize(
    ("kind", "megabytes", "codes"),
    [
        ("lines", 120, set()),
        ("array", 20, set()),
        ("one line", 200, {"unknown_format", "record_too_long"}),
        ("one text", 200, {"record_too_long"}),
        ("one text in an array", 200, {"record_too_long"}),
        ("brackets", 40, {"record_too_long", "broken_structure"}),
        ("a fault on every line", 1, {"missing_field"}),
    ],
)
def test_memory_does_not_grow_with_the_file(kind: str, megabytes: int, codes: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, kind, str(megabytes)], capture_output=True, text=True, check=True, timeout=120
    )
    grown, size, found = done.stdout.strip().split("|")
    assert int(size) >= megabytes << 20
    assert set(json.loads(found.replace("'", '"'))) == codes
    assert int(grown) < 60


def test_what_nobody_is_shown_is_counted_the_same() -> None:
    kinds = ("nope", {"messages": [{**U, "role": "oracle"}, A]}, {"messages": [U, {**A, "content": "{{name}}"}]})
    data = lines(distinct(0), *(kinds * 40), {"messages": [U]})
    heard: list[Issue] = []
    shown = check(data, max_issues=5)
    complete = check(data, max_issues=5, issue_sink=heard.append)  # here every issue is put into words
    assert shown == complete
    assert sum(shown.by_code.values()) == len(heard)
    assert all(issue.line and issue.message for issue in heard)
