"""`brightrun convert FILE --to FORMAT --out OUT`: a training file in another format, and what it does not hold."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brightrun.cli.out_file import check_out, say_unwritten, whole_file
from brightrun.formats.convert import READ_ONLY, Converted, convert
from brightrun.formats.names import FORMAT_IDS, format_id
from brightrun.validation.limits import limits_of

KEPT, LOST, UNREADABLE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Convert a file. Exit 0: all is in OUT, or the loss was allowed. 1: something was lost. 2: nothing was written."""
    options = _parser().parse_args(arguments)
    try:
        check_out(options.out, options.file)
        to = format_id(options.to)
        if to == "auto":
            raise ValueError("--to needs the name of a format.")
        limit = limits_of(os.environ).max_record_bytes
        with whole_file(options.out) as part:
            done = convert(options.file, part, to, format=options.format, max_record_bytes=limit)
    except (OSError, ValueError) as error:
        say_unwritten(options.file, error, as_json=options.json)
        return UNREADABLE
    answer = _answer(done, options, to)
    if options.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _print(answer)
    return KEPT if done.lossless or options.allow_loss else LOST


def _parser() -> argparse.ArgumentParser:
    written = ", ".join(name for name in FORMAT_IDS if name not in READ_ONLY)
    parser = argparse.ArgumentParser(
        prog="brightrun convert",
        allow_abbrev=False,
        description="Write a training file in another format. No server and no database are needed.",
        epilog="Exit status: 0 all is there, 1 something was lost (0 with --allow-loss), 2 nothing was written.",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the training file")
    add("--to", required=True, metavar="FORMAT", help=f"one of {written}")
    add("--out", required=True, type=Path, metavar="OUT", help="the file to write, JSON Lines; never the input")
    add("--format", default="auto", metavar="NAME", help="the format that FILE has (auto: by its content)")
    add("--allow-loss", action="store_true", help="exit 0 although something was lost")
    add("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    return parser


def _answer(done: Converted, options: argparse.Namespace, to: str) -> dict[str, Any]:
    return {
        "written": done.written,
        "dropped_fields": [{"path": path, "n": n} for path, n in sorted(done.dropped.items())],
        "unwritten": [{"line": record.line, "reason": record.reason} for record in done.unwritten],
        "unwritten_total": done.unwritten_total,
        "format": done.format,
        "to": to,
        "out": str(options.out),
    }


def _print(answer: dict[str, Any]) -> None:
    print(f"{answer['out']}: {answer['written']:,} records of {answer['to']}, from {answer['format']}")
    for field in answer["dropped_fields"]:
        print(f"  lost: {field['path']} ({field['n']:,} times)")
    for record in answer["unwritten"]:
        print(f"  not written: line {record['line']:,}: {record['reason']}")
    if answer["unwritten_total"] > len(answer["unwritten"]):
        print(f"  … and {answer['unwritten_total'] - len(answer['unwritten']):,} more")
