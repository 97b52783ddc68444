"""`--repair OUT` of `brightrun validate`: a mended copy of the file, and a log of each change."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from brightrun.cli.out_file import check_out, whole_file
from brightrun.validation import Report
from brightrun.validation.repair import MENDABLE, Choice, repair
from brightrun.validation.repair_records import Change

# What only a comparison of records finds is not mended where nobody asked for one.
_COMPARED = frozenset({"duplicate_record"})


def check_repair(file: Path, out: Path, log: Path | None) -> None:
    """Raise OutRefusedError where OUT or the log would overwrite the input, or each other."""
    check_out(out, file)
    if log is not None:
        check_out(log, file, out)


def mend_into(
    file: Path,
    out: Path,
    log: Path | None,
    *,
    format: str,  # noqa: A002 - the field's word
    checks: str,
    max_record_bytes: int,
    validates: Callable[[Path], Report],
) -> dict[str, Any]:
    """Write the mended file to OUT and answer `{changes, unfixed, out, by_code}`.

    unfixed: the errors and warnings that are left, found by validating what was written with `validates`. OUT appears
    whole or not at all. log: gets one JSON object a change and line. Raises OutRefusedError, OSError.
    """
    check_repair(file, out, log)
    choice = Choice(codes=MENDABLE - _COMPARED if checks == "structure" else MENDABLE)
    with ExitStack() as stack:
        part = stack.enter_context(whole_file(out))
        say = None
        if log is not None:
            lines = stack.enter_context(whole_file(log))
            say = _writer(stack.enter_context(lines.open("wb")))
        result = repair(file, part, choice, format=format, max_record_bytes=max_record_bytes, log=say)
        left = validates(part)
    return {
        "changes": result.changes,
        "unfixed": left.errors_total + left.warnings_total,
        "out": str(out),
        "by_code": result.by_code,
    }


def _writer(stream: BinaryIO) -> Callable[[Change], None]:
    def write(change: Change) -> None:
        stream.write(msgspec.json.encode(change) + b"\n")

    return write
