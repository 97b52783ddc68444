"""From the bytes of one object to its Reading."""

from collections.abc import Callable
from typing import NamedTuple

from brightrun.formats.decode import decode, locate_fault
from brightrun.formats.mendable import json_meant
from brightrun.formats.names import FormatId
from brightrun.formats.reading import Reading
from brightrun.formats.registry import Format, read_object
from brightrun.formats.repeated_keys import may_repeat, report_repeats
from brightrun.formats.texts import check_texts, suspicious

_EXCERPT_CHARACTERS, _SEEN_BYTES = 60, 8_500


class ObjectReader(NamedTuple):
    """limit: bytes an object may have. texts: whether to check what its texts hold."""

    limit: int
    texts: bool

    def read(self, reading: Reading, data: bytes | None, length: int, entry: Format, first_line: int = 0) -> Reading:
        """Fill `reading` from `data` (None when the object was above the limit) and return it.

        first_line: physical line on which the object begins, where `reading.line` is not one.
        """
        return self.read_with(
            reading, data, length, lambda value: read_object(value, entry, reading), entry.texts, first_line, entry.id
        )

    def read_with(
        self,
        reading: Reading,
        data: bytes | None,
        length: int,
        reads: Callable[[object], None],
        texts: frozenset[str],
        first_line: int = 0,
        format: FormatId | None = None,  # noqa: A002 - the field's word
    ) -> Reading:
        """The same, with the caller's own way from the decoded value into `reading`, and the fields of its texts.

        format: of the object; None where it is one of the pairs of a document.
        """
        if data is None:
            message = f"The record is {length:,} bytes long; the limit is {self.limit:,}. It was skipped."
            reading.report("record_too_long", "", message)
            return reading
        try:
            value = decode(data)
        except ValueError:
            _report_fault(reading, data, first_line)
            return reading
        reading.value = value
        reads(value)
        if may_repeat(data, value):
            report_repeats(data, reading, format or "brightrun_lora_v4", pair=format is None)
        if self.texts and reading.is_record and isinstance(value, dict) and suspicious(data):
            check_texts(value, reading, texts)
        return reading


def _report_fault(reading: Reading, data: bytes, first_line: int) -> None:
    from brightrun.formats.masking import around  # loaded when there is something to report

    fault = locate_fault(data)
    reading.fault = fault.position
    if not reading.hears(fault.code):
        reading.report(fault.code, "", "")
        return
    line = first_line + data.count(b"\n", 0, fault.position)
    # More than is shown, so that a secret is known as one and masked although the excerpt cuts it.
    before = data[max(0, fault.position - _SEEN_BYTES) : fault.position].decode("utf-8", errors="replace")
    after = data[fault.position : fault.position + _SEEN_BYTES].decode("utf-8", errors="replace")
    reading.report(
        fault.code,
        "",
        f"{fault.message} (Physical line {line:,}.)" if first_line else fault.message,
        excerpt=around(before + after, len(before), before=_EXCERPT_CHARACTERS, after=_EXCERPT_CHARACTERS),
        suggestion=fault.suggestion,
        position=fault.position,
        fixable=json_meant(data) is not None if fault.code == "broken_json" else None,
    )
