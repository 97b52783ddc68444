"""Corrects the counts that a file declares about itself, after the records were written."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from brightrun.formats.documents import Declared
from brightrun.formats.json_spans import Edit, spans_of, steps_of
from brightrun.formats.json_stream import JsonWalker, StructureError
from brightrun.formats.lines import ByteSource
from brightrun.formats.reader import RecordReader
from brightrun.validation.repair_output import Splicer
from brightrun.validation.repair_records import Change, Chooses


def correct_counts(
    target: Path, before: RecordReader, choice: Chooses, limit: int, say: Callable[[Change], None]
) -> None:
    """Correct the counts of the file at `target` that are chosen, or that were right `before` records were removed."""
    assert before.detection is not None
    after = RecordReader(target, before.detection.format or "auto", max_record_bytes=limit)
    for _ in after.readings():
        pass
    were = {declared.path: (declared.number, counts) for declared, counts in before.declared_counts()}
    edits: list[Edit] = []
    with target.open("rb") as stream:
        for declared, counts in after.declared_counts():
            number, possible = were.get(declared.path, (None, ()))
            was_right = number in possible
            if declared.number in counts or not (
                was_right or choice.takes("meta_count_mismatch", declared.line, declared.path)
            ):
                continue
            right = counts[possible.index(declared.number)] if was_right else counts[0]
            edit = _number_at(stream, declared, limit, right)
            if edit is not None:
                edits.append(edit)
                say(Change(declared.line, declared.path, "meta_count_mismatch", str(declared.number), str(right)))
        if edits:
            _write_anew(stream, target, edits)


def _number_at(stream: BinaryIO, declared: Declared, limit: int, number: int) -> Edit | None:
    stream.seek(declared.byte_offset)
    try:
        text = next(iter(JsonWalker(ByteSource(stream), lambda path: False, limit))).data
    except (StructureError, StopIteration):
        return None
    if text is None:
        return None
    root, steps = spans_of(text), steps_of(declared.path)
    # A header is read as a whole, the metadata of a document from where they begin.
    span = root.find(steps) or root.find(steps[-1:])
    if span is None:
        return None
    offset = declared.byte_offset
    return Edit(offset + span.start, offset + span.end, str(number).encode())


def _write_anew(stream: BinaryIO, target: Path, edits: list[Edit]) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".repair-")
    try:
        with os.fdopen(handle, "wb") as out:
            splicer = Splicer(stream, out)
            for edit in sorted(edits):
                splicer.copy_to(edit.start)
                splicer.write(edit.data)
                splicer.skip_to(edit.end)
            splicer.finish()
        shutil.copymode(target, name)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
