"""The bytes of a record, read again by the place where the reader met it."""

from typing import BinaryIO

from brightrun.formats.detect import Layout
from brightrun.formats.json_stream import JsonWalker, StructureError
from brightrun.formats.lines import MAX_RECORD_BYTES, ByteSource


def text_at(stream: BinaryIO, offset: int, layout: Layout, limit: int = MAX_RECORD_BYTES) -> bytes | None:
    """The text of the record at an offset, as the reader saw it; None above the limit, and where it has no end."""
    stream.seek(offset)
    if layout == "lines":
        text = stream.readline(limit + 3).removesuffix(b"\n").removesuffix(b"\r")
        return text if len(text) <= limit else None
    try:
        return next(iter(JsonWalker(ByteSource(stream), lambda path: False, limit))).data
    except (StructureError, StopIteration):
        return None
