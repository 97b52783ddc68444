"""A row by its line is the record that the reader finds there; where there is none, it is said why."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from brightrun.formats.reader import RecordReader
from brightrun.formats.row import RowError, read_row
from brightrun.formats.write import write_records

PAIR = {
    "conversation_id": "c1", "system_prompt": "Be kind.", "conversation_history": [],
    "current_user_input": "Hello?", "target_response": "Hello, dear.",
}  # fmt: skip
FULL = {
    "training_file_metadata": {"version": "4.0.0"},
    "consultant_profile": {"name": "Ilse"},
    "conversations": [
        {
            "conversation_metadata": {"conversation_id": f"c{i}"},
            "training_pairs": [{**PAIR, "target_response": None}, {**PAIR, "target_response": f"Answer {i}."}],
        }
        for i in range(3)
    ],
}
ENRICHED = {
    "dataset_metadata": {"dataset_name": "d"},
    "consultant_profile": {},
    "training_pairs": [{**PAIR, "conversation_metadata": {}, "target_response": f"Answer {i}."} for i in range(2)],
}


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(obj).encode() + b"\n" for obj in objects)


FILES = {
    "v4": lines({"_meta": {"total_pairs": 2}}, PAIR, {**PAIR, "target_response": None}, PAIR),
    "messages, blank lines and CRLF": b"\r\n".join(
        [json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": f"{i}"}]}).encode()
         + b"\r\n" for i in range(4)]
    ),
    "byte order mark, no line end at the end": b"\xef\xbb\xbf" + lines(
        *({"prompt": "a", "completion": f"b{i}"} for i in range(3))
    ).rstrip(),
    "array": json.dumps([{"instruction": "a", "output": f"b{i}"} for i in range(5)], indent=1).encode(),
    "full v4": json.dumps(FULL, indent=2).encode(),
    "enriched": json.dumps(ENRICHED).encode(),
    "enriched, one a line": lines(ENRICHED, ENRICHED),
    "many blocks": lines(*({"prompt": "a " * 500, "completion": f"b{i}"} for i in range(700))),
    "a fault": lines(*({"prompt": "a", "completion": f"b{i}"} for i in range(3))) + b'{"prompt": "a"}\n{"prompt\n',
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_what_the_reader_finds_at_that_line(name: str) -> None:
    data = FILES[name]
    reader = RecordReader(io.BytesIO(data))
    found = {reading.line: reading for reading in reader.readings() if reading.is_record}
    sampled = {*list(found)[:: max(1, len(found) // 40)], *list(found)[-1:]}
    for line in sampled:
        reading = found[line]
        if not reading.records:
            with pytest.raises(RowError) as refused:
                read_row(io.BytesIO(data), line)
            assert refused.value.code in {"null_target", "broken_row"}
            continue
        for part, record in enumerate(reading.records, start=1):
            row = read_row(io.BytesIO(data), line, part=part)
            assert (row.record.messages, row.record.path) == (record.messages, record.path)
            assert (row.record.line, row.record.byte_offset) == (record.line, record.byte_offset)
            assert (row.part, row.parts) == (part, len(reading.records))
        with pytest.raises(RowError, match="there is no part"):
            read_row(io.BytesIO(data), line, part=len(reading.records) + 1)
    with pytest.raises(RowError, match=r"has no (line|record|pair)") as beyond:
        read_row(io.BytesIO(data), max(found) + 1000)
    assert beyond.value.code == "no_such_line"


@pytest.mark.parametrize(
    ("data", "line", "code", "words"),
    [
        (FILES["v4"], 1, "header_line", "header"),
        (FILES["v4"], 3, "null_target", "user turn"),
        (FILES["messages, blank lines and CRLF"], 2, "blank_line", "blank"),
        (FILES["a fault"], 4, "broken_row", "completion"),
        (FILES["a fault"], 5, "broken_row", "error"),
        (b"name,age\n1,2\n", 1, "unknown_format", "cannot be read"),
        (b"", 1, "unknown_format", "cannot be read"),
    ],
)
def test_a_line_without_a_record_says_why(data: bytes, line: int, code: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as refused:
        read_row(io.BytesIO(data), line)
    assert refused.value.code == code


def test_a_path_is_read_like_a_stream(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    with file.open("wb") as stream:
        write_records([read_row(io.BytesIO(FILES["array"]), 2).record], stream, "openai_messages")
    assert read_row(file, 1).record.messages[-1].content == "b1"
