"""Reads single records of a file a second time, by their place."""

from collections.abc import Callable
from typing import BinaryIO

from brightrun.formats.detect import Detection
from brightrun.formats.json_stream import JsonWalker, StructureError
from brightrun.formats.lines import ByteSource
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reading import Reading
from brightrun.formats.records import Record
from brightrun.formats.registry import FORMATS
from brightrun.formats.v4 import read_pair


class Rereader:
    """`(line, byte_offset)` to a record. opens: gives the same bytes again, as a stream that can seek."""

    def __init__(self, opens: Callable[[], BinaryIO], detection: Detection, max_record_bytes: int) -> None:
        self._opens, self._detection, self._limit = opens, detection, max_record_bytes
        self._stream: BinaryIO | None = None
        self._object = ObjectReader(max_record_bytes, False)

    def __call__(self, line: int, byte_offset: int) -> Record | None:
        """The record there; None where there is none, or several in one object. Raises OSError."""
        if self._stream is None:
            self._stream = self._opens()
        self._stream.seek(byte_offset)
        data = self._one_line(self._stream) if self._detection.layout == "lines" else self._one_value(self._stream)
        if data is None or self._detection.format is None:
            return None
        reading = Reading(line, byte_offset, "", 0)
        entry = FORMATS[self._detection.format]
        if self._detection.layout in ("v4_full", "enriched_file"):
            pairs = FORMATS["brightrun_lora_v4"]

            def read(pair: object) -> None:
                if isinstance(pair, dict) and pairs.marks(pair):
                    read_pair(pair, reading, None)

            self._object.read_with(reading, data, len(data), read, pairs.texts)
        else:
            self._object.read(reading, data, len(data), entry)
        return reading.records[0] if len(reading.records) == 1 else None

    def close(self) -> None:
        """Close what was opened."""
        if self._stream is not None:
            self._stream.close()

    def _one_line(self, stream: BinaryIO) -> bytes | None:
        data = stream.readline(self._limit + 2)
        data = data.removesuffix(b"\n").removesuffix(b"\r")
        return data if len(data) <= self._limit else None

    def _one_value(self, stream: BinaryIO) -> bytes | None:
        try:
            return next(iter(JsonWalker(ByteSource(stream), lambda path: False, self._limit))).data
        except (StructureError, StopIteration):
            return None
