"""The fast way through JSON Lines decides nothing: with and without it the report is the same."""

import io
import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.formats import lean, lines, reader, typed
from brightrun.formats.records import Record
from brightrun.validation import Report, run, statistics, validate
from brightrun.validation.checks import Remark

U, A = {"role": "user", "content": "Which clay?"}, {"role": "assistant", "content": "Stoneware."}


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"p{number}",
        "conversation_id": f"c{number // 3}",
        "turn_number": 2,
        "system_prompt": "You teach pottery.",
        "conversation_metadata": {"client_persona": "Ann"},
        "conversation_history": [{"turn": 1, **U}],
        "current_user_input": "Which clay?",
        "target_response": f"Stoneware {number}.",
        **changes,
    }


def chat(number: int, **changes: Any) -> dict[str, Any]:
    return {"messages": [U, {**A, "content": f"Stoneware {number}."}], **changes}


def turns(number: int, **changes: Any) -> dict[str, Any]:
    return {"conversation_id": f"c{number}", "turns": [U, {**A, "content": f"Stoneware {number}."}], **changes}


MAKERS = {"brightrun_lora_v4": pair, "openai_messages": chat, "brightrun_lora_v3": turns}

TEXTS = st.sampled_from(
    ["", " ", "\n", "Yes.", "cut off here, and the\\", "a\\n\\nb", "{{name}}", "{", "[object Object]", "[x]", "[INST]",
     "<|im_end|>", "</s>", "<b>", "a\x07", "\x7f", "\ufffd", "\ufeff", "é😀", "<｜User｜>", "C:\\new", "Which clay?",
     "{% if x %}", "<%= x %>",
     "<noinput>", "<bos>", "<s>old</s>", "[gMASK]", "[|user|]", "a\x85",
     "\xc3\xa9", "\u00e2\u20ac\u2122", "```\ncode", "caf\\u00e9", "one\\ntwo\\nthree",
     "First a whole sentence stands here. " * 5 + "And then the next one stops, in the mid",
     "It is a long answer that goes on. It says many things about clay and wheels and then it stops at the"]
)  # fmt: skip
ODD = st.none() | st.booleans() | st.integers(-1, 3) | TEXTS | st.just([]) | st.just({}) | st.just([1])
ROLES = st.sampled_from(["user", "assistant", "system", "human", "tool", "User", "?"])
TURN = st.fixed_dictionaries(
    {"role": ROLES | ODD, "content": TEXTS | ODD},
    optional={
        "weight": ODD,
        "tool_calls": ODD,
        "function_call": ODD,
        "name": ODD,
        "from": ROLES,
        "value": TEXTS,
        "turn": st.integers(0, 4) | ODD,
        "turn_number": st.integers(0, 4) | ODD,
    },
)
GOOD_TURNS = st.integers(0, 5).map(lambda n: [U, A] * n)
NUMBERED = st.lists(st.integers(0, 5), min_size=2, max_size=6).map(
    lambda ns: [{**(U, A)[place % 2], "turn": number} for place, number in enumerate(ns)]
)
LISTS = st.lists(TURN | ODD, max_size=4) | GOOD_TURNS | NUMBERED | ODD
FIELDS = st.sampled_from(
    [
        *("id", "conversation_id", "turn_number", "system_prompt", "current_user_input", "target_response", "tools"),
        *("functions", "_meta", "label", "chosen"),
    ]
)
CHANGES = st.dictionaries(FIELDS, ODD, max_size=2)
HISTORY = st.fixed_dictionaries({}, optional=dict.fromkeys(("conversation_history", "messages", "turns"), LISTS))
SCAFFOLD = st.fixed_dictionaries({}, optional={"conversation_metadata": st.dictionaries(TEXTS, TEXTS, max_size=2)})


@st.composite
def damaged_lines(draw: st.DrawFn) -> tuple[str, bytes]:
    """A format, and a file in it whose first lines are good and whose others are anything."""
    name = draw(st.sampled_from(list(MAKERS)))
    make = MAKERS[name]
    written = [json.dumps(make(number)).encode() for number in range(0, 15, 3)]
    for number in range(20, 20 + draw(st.integers(1, 6))):
        changes = {**draw(CHANGES), **draw(HISTORY), **draw(SCAFFOLD)} if draw(st.integers(0, 3)) else {}
        text = json.dumps({**make(number), **changes}, ensure_ascii=draw(st.booleans())).encode()
        match draw(st.integers(0, 12)):
            case 0:
                cut = draw(st.integers(0, len(text)))
                text = (
                    text[:cut]
                    + draw(st.sampled_from([b"\xff", b"\n", b"\r\n", b",", b"]", b"\\", b"\xed\xa0\xbd"]))
                    + text[cut:]
                )
            case 1:
                text += b"," + text
            case 2:
                text = draw(st.sampled_from([b"", b" ", b"[]", b"null", b"{}", b"\xef\xbb\xbf", b"[[", b"]]", b"],["]))
        written.append(text)
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    return name, end.join(written) + draw(st.sampled_from([end, b""]))


def reports(data: bytes, block: int, **options: Any) -> tuple[list[Report], int, int]:
    """The report by every way, the fastest first and the general one last; how many rows went the fast way where the
    fastest was closed; how many rows of whole blocks were only summed up where it was open."""
    taken: list[int] = []
    cleared: list[int] = []
    run_class, add_cleared, clear = run.Run, statistics.Statistics.add_cleared, reader.clear
    take_run = run_class.take_run

    def counting(self: Any, rows: typed.CleanRun) -> None:
        taken.append(len(rows.rows))
        take_run(self, rows)

    def summing(self: Any, sums: lean.Cleared) -> None:
        cleared.append(sums.rows)
        add_cleared(self, sums)

    found = []
    with patch.object(lines, "BLOCK_BYTES", block):
        with patch.object(statistics.Statistics, "add_cleared", summing), patch.object(reader, "_MAX_FAILED", 1):
            found.append(validate(io.BytesIO(data), **options))
        with patch.object(run_class, "take_run", counting), patch.object(reader, "clear", lambda *_: None):
            found.append(validate(io.BytesIO(data), **options))
        with patch.object(run_class, "may_hurry", lambda self: False):
            found.append(validate(io.BytesIO(data), **options))
    assert reader.clear is clear
    return found, sum(taken), sum(cleared)


def assert_same(found: list[Report]) -> Report:
    for other in found[:-1]:
        assert other == found[-1]
    return found[-1]


class Keeper:
    """A check that keeps what it is shown."""

    names = ("keeper",)

    def __init__(self) -> None:
        self.records: list[Record] = []

    def look(self, record: Record) -> list[Remark]:
        self.records.append(record)
        return []


@settings(max_examples=250)
@given(
    damaged_lines(), st.sampled_from([16, 700, 3000]), st.sampled_from(["structure", "default", "full"]), st.booleans()
)
def test_both_ways_give_the_same_report(case: tuple[str, bytes], block: int, checks: Any, estimate: bool) -> None:
    name, data = case
    assert_same(reports(data, block, checks=checks, estimate_tokens=estimate, format=name, max_issues=None)[0])


@settings(max_examples=100)
@given(damaged_lines(), st.sampled_from([16, 700, 3000]))
def test_checks_are_shown_the_same_records_both_ways(case: tuple[str, bytes], block: int) -> None:
    name, data = case
    seen: list[list[Record]] = []
    for hurry in (True, False):
        keeper = Keeper()
        with patch.object(lines, "BLOCK_BYTES", block), patch.object(run.Run, "may_hurry", lambda self: hurry):  # noqa: B023
            validate(io.BytesIO(data), format=name, record_checks=[keeper])
        seen.append(keeper.records)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", MAKERS)
def test_clean_rows_really_go_the_fast_way(name: str) -> None:
    # Text that only looks dangerous stays fast, too.
    records = [MAKERS[name](number) for number in range(0, 600, 3)]
    data = "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()
    for level in ("structure", "default"):
        found, taken, cleared = reports(data, 4096, checks=level)
        report = assert_same(found)
        assert report.errors_total == report.warnings_total == 0
        assert taken > 150
        assert (cleared > 150) == (level == "structure")


def test_a_value_over_a_line_end_is_not_taken_for_two_lines() -> None:
    good = [json.dumps(chat(number)) for number in range(40)]
    halves = json.dumps(chat(99)).replace("}, {", "},\n{", 1)
    twice = json.dumps(chat(100)) + "," + json.dumps(chat(101))
    data = "\n".join([*good, halves, twice, *good[:1]]).encode()
    for level in ("structure", "default"):
        found, taken, _ = reports(data, 100, checks=level)
        assert [issue.line for issue in assert_same(found).issues if issue.code == "broken_json"] == [41, 42, 43]
        assert taken > 20


def test_duplicates_have_exact_offsets_on_the_fast_way() -> None:
    records = [json.dumps(chat(number % 150)) for number in range(200)]
    data = "\n".join(records).encode()
    found, taken, _ = reports(data, 1000)
    fast = assert_same(found)
    assert taken > 100
    duplicates = [issue for issue in fast.issues if issue.code == "duplicate_record"]
    assert len(duplicates) == 50
    for issue in duplicates:
        assert data[issue.byte_offset :].startswith(records[issue.line - 1].encode())
        assert data.count(b"\n", 0, issue.byte_offset) + 1 == issue.line


DAMAGED = [
    *("{% if x %}", "{{#if x}}", "{{a ? 'x' : 'y'}}", "<%= x %>", "<noinput>", "[object Object]", "[INSERT NAME]"),
    *("<bos>", "<eos>", "<s>", "</s>", "[gMASK]", "[|user|]", "[TOOL_CALLS]", "[/AVAILABLE_TOOLS]", "[SYSTEM_PROMPT]"),
    *("[INST]", "<|im_end|>", "<|end-x|>", "<｜User｜>", "<<SYS>>", "<start_of_turn>", "\x7f", "\x07", "\ufffd"),
    *(
        "a\x85",
        "a\x9f",
        "\xc3\xa9",
        "\xc2\xb0",
        "\u00e2\u20ac\u2122",
        "\xe2\x80\x94",
        "\xf0\u0178\u02dc",
        "\xf0\x9f\x98",
    ),
    *("caf\\u00e9", "a\\n\\nb", 'say \\"hi\\" now', "one\\ntwo\\nthree"),
]
CUT_OFF = [
    "It ends with \\",
    "```py\ncode = 1",
    "First a whole sentence stands here. " * 5 + "And then the next one stops, in the mid",
    "First a whole sentence stands here. " * 5 + "And then, as one, two,",
]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_way_passes_over_a_text_that_the_general_reader_warns_of(name: str, ascii_only: bool) -> None:
    good = [json.dumps(MAKERS[name](number)) for number in range(0, 60, 3)]
    plain = json.dumps(MAKERS[name](200), ensure_ascii=ascii_only)
    for text in [*(f"See {damage} here." for damage in DAMAGED), *CUT_OFF]:
        bad = plain.replace("Stoneware 200.", json.dumps(text, ensure_ascii=ascii_only)[1:-1])
        found, _, cleared = reports("\n".join([*good, bad, *good]).encode(), 900, checks="structure", format=name)
        assert assert_same(found).warnings_total == 1, text
        assert cleared > 0
