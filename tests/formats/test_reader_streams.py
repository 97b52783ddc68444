"""Lines and documents: exact offsets, bounded memory, no crash on any bytes."""

import io
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brightrun.formats.decode import decode, locate_fault
from brightrun.formats.detect import detect
from brightrun.formats.issues import Issue
from brightrun.formats.json_stream import JsonWalker, StructureError, close_truncated
from brightrun.formats.lines import ByteSource, iter_lines
from brightrun.formats.reader import RecordReader, read_records
from brightrun.formats.records import Record


class Dripping(io.RawIOBase):
    """A stream that gives few bytes at a time, so that every boundary is met."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._position = data, size, 0

    def read(self, size: int = -1) -> bytes:
        size = self._size if size < 0 else min(size, self._size)
        piece = self._data[self._position : self._position + size]
        self._position += len(piece)
        return piece


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.integers(1, 7), st.booleans()
)
def test_lines_have_exact_numbers_and_offsets(lines: list[bytes], size: int, ends: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    source = ByteSource(Dripping(data, size))  # type: ignore[arg-type]
    found = list(iter_lines(source))
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert source.lines == len(expected)
    for line, text in zip(found, expected, strict=True):
        assert line.data == text.removesuffix(b"\r")
        assert data[line.offset : line.offset + len(text)] == text


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 9), st.integers(5, 20))
def test_lines_above_the_limit_are_named_and_the_rest_is_read(lengths: list[int], size: int, limit: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    found = list(iter_lines(ByteSource(Dripping(data, size)), limit))  # type: ignore[arg-type]
    assert [line.number for line in found] == list(range(1, len(lengths) + 1))
    for line, length in zip(found, lengths, strict=True):
        if length <= limit:
            assert line.data == b"x" * length
        else:
            assert line.data is None
            assert line.length == length


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=6), st.integers(1, 9), st.sampled_from([None, 0, 2]), st.booleans())
def test_an_array_is_cut_into_its_values_at_exact_offsets(
    values: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    walker = JsonWalker(ByteSource(Dripping(data, size)), lambda path: not path)  # type: ignore[arg-type]
    found = [value for value in walker if value.path]
    assert [value.path for value in found] == [(number,) for number in range(len(values))]
    assert [orjson.loads(value.data or b"") for value in found] == values
    for value in found:
        assert data[value.offset : value.offset + value.length] == value.data
        assert value.first_line == data.count(b"\n", 0, value.offset) + 1


@given(st.lists(JSON, min_size=1, max_size=4), st.integers(0, 200), st.integers(1, 9))
def test_a_damaged_array_ends_with_one_structure_error_or_broken_values(values: list[Any], cut: int, size: int) -> None:
    data = json.dumps(values).encode()
    data = data[: cut % len(data)]
    walker = JsonWalker(ByteSource(Dripping(data, size)), lambda path: not path)  # type: ignore[arg-type]
    with pytest.raises(StructureError) as caught:
        list(walker)
    assert 0 <= caught.value.offset <= len(data)


@given(JSON, st.integers(0, 200))
def test_the_beginning_of_a_record_closes_to_whole_json(value: Any, cut: int) -> None:
    data = json.dumps({"a": value, "b": 1}).encode()
    closed = close_truncated(data[: 1 + cut % len(data)])
    assert closed is not None
    assert isinstance(orjson.loads(closed), dict)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()[:-1]))
def test_every_refusal_to_decode_has_a_place_and_a_reason(data: bytes) -> None:
    try:
        decode(data)
    except ValueError:
        fault = locate_fault(data)
        assert 0 <= fault.position <= len(data)
        assert fault.message


@settings(max_examples=300)
@given(
    st.binary(max_size=400)
    | st.text(alphabet='{}[]":,\\ \n\r\tabtruenl0123\u00e9\ud83d', max_size=200).map(
        lambda t: t.encode("utf-8", "surrogatepass")
    )
)
def test_arbitrary_bytes_never_crash_the_reader(data: bytes) -> None:
    for declared in ("auto", "brightrun_lora_v4", "sharegpt"):
        for item in read_records(io.BytesIO(data), declared, max_record_bytes=100):
            assert isinstance(item, Record | Issue)
            assert item.line >= 1
            assert 0 <= item.byte_offset <= len(data)


CONTENT = st.text(min_size=1, max_size=20).filter(lambda t: bool(t.strip()))
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "human", "?"]),
            "content": CONTENT | st.just("") | st.none(),
        }
    ),
    max_size=4,
)
OBJECTS = st.lists(
    st.fixed_dictionaries({"messages": MESSAGES}, optional={"id": CONTENT, "tools": JSON})
    | st.fixed_dictionaries({"prompt": CONTENT | JSON, "completion": CONTENT | JSON}, optional={"label": JSON})
    | st.fixed_dictionaries({"instruction": JSON, "output": JSON}, optional={"history": JSON})
    | st.fixed_dictionaries(
        {"prompt": CONTENT, "chosen": CONTENT | JSON | MESSAGES, "rejected": CONTENT | JSON | MESSAGES}
    )
    | st.fixed_dictionaries(
        {"target_response": JSON, "current_user_input": JSON}, optional={"conversation_history": MESSAGES | JSON}
    )
    | JSON,
    min_size=2,
    max_size=5,
)


def place(item: Record | Issue, base: str) -> Any:
    if isinstance(item, Issue):
        return item.line, item.path.removeprefix(base).removeprefix("."), item.code
    return item.line, item.conversation_id, item.messages, item.chosen, item.rejected, item.label, item.tools


@settings(max_examples=200)
@given(OBJECTS)
def test_json_lines_and_an_array_of_the_same_records_read_alike(objects: list[Any]) -> None:
    lines = b"".join(orjson.dumps(obj) + b"\n" for obj in objects)
    array = orjson.dumps(objects, option=orjson.OPT_INDENT_2)
    if detect(lines, complete=True).layout != "lines":
        return  # a first line that is a list makes an array of the file
    read = []
    for text in (lines, array):
        reader = RecordReader(io.BytesIO(text), texts=True)
        items = [
            item for reading in reader.readings() if reading.is_record for item in (*reading.issues, *reading.records)
        ]
        read.append([place(item, f"[{item.line - 1}]") for item in items])
    assert read[0] == read[1]
