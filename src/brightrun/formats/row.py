"""One row of a training file by its line: what stands there, or why there is nothing that a model could learn."""

from dataclasses import dataclass
from pathlib import Path

from brightrun.formats.detect import HEAD_BYTES, Detection, detect
from brightrun.formats.documents import Document
from brightrun.formats.lines import MAX_RECORD_BYTES, UTF8_BOM, ByteSource, iter_blocks, lines_of
from brightrun.formats.names import format_id
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reader import Source
from brightrun.formats.reading import Reading
from brightrun.formats.records import Record
from brightrun.formats.registry import FORMATS


class RowError(Exception):
    """There is nothing to show at that line; the message says why.

    code: `no_such_line`, `blank_line`, `header_line`, `broken_row`, `null_target`, or `unknown_format` (of the file).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Row:
    """record: what is learned from. part, parts: which of how many records the row holds (1 of 1 but for rows that
    carry whole conversations in pairs). format: what the file is written in.
    """

    record: Record
    part: int
    parts: int
    format: str


def read_row(
    source: Source,
    line: int,
    format: str = "auto",  # noqa: A002 - the field's word
    *,
    part: int = 1,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Row:
    """The record at a line; of a JSON array that number of record, of the full v4 file that number of pair.

    source: a path, or a binary stream at its beginning. Lines before it are passed over, not read. Raises RowError,
    UnknownFormatError, OSError.
    """
    format_id(format)
    if isinstance(source, str | Path):
        with Path(source).open("rb") as stream:
            return read_row(stream, line, format, part=part, max_record_bytes=max_record_bytes)
    bytes_ = ByteSource(source)  # type: ignore[arg-type]
    head = bytes_.peek(HEAD_BYTES + 1)
    detection = detect(head[:HEAD_BYTES], complete=len(head) <= HEAD_BYTES, declared=format)
    if detection.format is None:
        why = next((issue.message for issue in detection.issues), detection.reason)
        raise RowError("unknown_format", f"The file cannot be read: {why}")
    if detection.bom:
        bytes_.skip(len(UTF8_BOM))
    reading = _find(bytes_, detection, line, max_record_bytes)
    return Row(_record(reading, line, part), part, len(reading.records), detection.format)


def _find(source: ByteSource, detection: Detection, line: int, limit: int) -> Reading:
    assert detection.format is not None
    reader, entry = ObjectReader(limit, False), FORMATS[detection.format]
    if detection.layout == "lines":
        for block in iter_blocks(source, limit):
            before = block.first_line + block.line_ends <= line
            if before and block.data is not None and block.data.endswith(b"\n"):
                continue
            for found in lines_of(block, limit):
                if found.number == line:
                    if found.data is not None and not found.data.strip():
                        raise RowError("blank_line", f"Line {line:,} is blank.")
                    reading = Reading(line, found.offset, "", line - 1)
                    return reader.read(reading, found.data, found.length, entry)
        raise RowError("no_such_line", f"The file has no line {line:,}: it ends at line {source.lines:,}.")
    document = Document(source, detection.layout, entry, reader)
    last = 0
    for reading in document.readings():
        if reading.is_record and reading.line == line:
            return reading
        last = reading.line if reading.is_record else last
    what = "pair" if detection.layout in ("v4_full", "enriched_file") else "record"
    raise RowError("no_such_line", f"The file has no {what} {line:,}: it ends at {what} {last:,}.")


def _record(reading: Reading, line: int, part: int) -> Record:
    if not reading.is_record:
        raise RowError("header_line", f"Line {line:,} is the file's header (`_meta`), not a record.")
    if reading.errors:
        first = next(issue for issue in reading.issues if issue.severity == "error")
        more = f" ({reading.errors - 1} more errors)" if reading.errors > 1 else ""
        raise RowError("broken_row", f"Row {line:,} has an error and is not learned from: {first.message}{more}")
    if not reading.records:
        raise RowError("null_target", f"Row {line:,} has no target: it is a user turn, from which nothing is learned.")
    if not 1 <= part <= len(reading.records):
        raise RowError("no_such_part", f"Row {line:,} holds {len(reading.records)} records; there is no part {part}.")
    return reading.records[part - 1]
