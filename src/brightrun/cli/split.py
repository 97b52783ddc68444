"""`brightrun split FILE --train OUT --heldout OUT`: the held-out split, as a training run makes it, in two files."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brightrun.cli.out_file import check_out, say_unwritten, whole_file
from brightrun.formats.convert import Converted
from brightrun.formats.split_file import SplitView, split_file
from brightrun.validation.limits import limits_of
from brightrun.validation.near_links import near_links

DONE, LEFT_OUT, UNREADABLE = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Split a file. Exit 0: every row is on one side. 1: some are on neither, and named. 2: nothing was written."""
    options = _parser().parse_args(arguments)
    try:
        check_out(options.train, options.file)
        check_out(options.heldout, options.file, options.train)
        limit = limits_of(os.environ).max_record_bytes
        with whole_file(options.train) as train, whole_file(options.heldout) as heldout:
            view, done = split_file(
                options.file,
                train,
                heldout,
                train.with_name(train.name + ".scratch"),
                fraction=options.fraction,
                seed=options.seed,
                format=options.format,
                near_links=near_links,
                max_record_bytes=limit,
            )
    except (OSError, ValueError) as error:
        say_unwritten(options.file, error, as_json=options.json)
        return UNREADABLE
    answer = _answer(view, done, options)
    if options.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _print(answer)
    return DONE if not done.unwritten_total else LEFT_OUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brightrun split",
        allow_abbrev=False,
        description="Split a training file by conversation: fair by persona, arc and topic, near-duplicates together.",
        epilog="Exit status: 0 every row is on one side, 1 some are on neither, 2 nothing was written.",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the training file")
    add("--train", required=True, type=Path, metavar="OUT", help="the rows to train on, JSON Lines")
    add("--heldout", required=True, type=Path, metavar="OUT", help="the rows kept from training, JSON Lines")
    add("--fraction", type=_fraction, default=0.1, metavar="X", help="share to hold out, above 0 to 0.5 (0.1)")
    add("--seed", type=int, default=0, metavar="N", help="another seed gives another split (0)")
    add("--format", default="auto", metavar="NAME", help="the format that FILE has (auto: by its content)")
    add("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    return parser


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 0.5:
        raise argparse.ArgumentTypeError("must be above 0, at most 0.5")
    return value


def _answer(view: SplitView, done: Converted, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "train": {
            "out": str(options.train),
            "conversations": view.train_conversations,
            "records": view.train_records,
        },
        "heldout": {
            "out": str(options.heldout),
            "conversations": view.heldout_conversations,
            "records": view.heldout_records,
        },
        "fraction": view.fraction,
        "seed": view.seed,
        "shares": [share._asdict() for share in view.shares],
        "near_duplicates_together": view.together,
        "dropped_fields": [{"path": path, "n": n} for path, n in sorted(done.dropped.items())],
        "unwritten": [{"line": record.line, "reason": record.reason} for record in done.unwritten],
        "unwritten_total": done.unwritten_total,
        "format": done.format,
    }


def _print(answer: dict[str, Any]) -> None:
    for side in ("train", "heldout"):
        found = answer[side]
        print(f"{found['out']}: {found['records']:,} records of {found['conversations']:,} conversations ({side})")
    for share in answer["shares"]:
        print(f"  {share['kind']} {share['value'] or '—'}: {share['train']:,} train, {share['heldout']:,} held out")
    if answer["near_duplicates_together"]:
        print(f"  {answer['near_duplicates_together']:,} conversations stay with one that says nearly the same")
    for field in answer["dropped_fields"]:
        print(f"  lost: {field['path']} ({field['n']:,} times)")
    for record in answer["unwritten"]:
        print(f"  on neither side: line {record['line']:,}: {record['reason']}")
