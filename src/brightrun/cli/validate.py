"""`brightrun validate FILE`: the validator alone, without server or database."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brightrun.validation import MAX_ISSUES, Report, validate
from brightrun.validation.limits import Limits, limits_of
from brightrun.validation.thresholds import changed, parse_thresholds

if TYPE_CHECKING:
    from brightrun.validation.model_view import ModelView

READY, NOT_READY, UNREADABLE = 0, 1, 2


class _Failure(Exception):
    """What keeps the check from being made. code: stable, for scripts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str]) -> int:
    """Check a training file. Exit 0: ready to train on. 1: not. 2: the file or the command line cannot be read."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.max_length is not None and options.model is None:
        parser.error("--max-length counts tokens: it needs --model")
    if options.heldout is not None and options.checks != "full":
        parser.error("--heldout compares all conversations: it needs --checks full")
    if options.repair_log is not None and options.repair is None:
        parser.error("--repair-log needs --repair")
    try:
        answer, report = _answer(options)
    except _Failure as failure:
        if options.json:
            print(json.dumps({"file": str(options.file), "error": str(failure), "code": failure.code}))
        print(f"brightrun: {failure}", file=sys.stderr)
        return UNREADABLE
    if options.json:
        sys.stdout.write(_as_json(answer, report) + "\n")
    else:
        _print(answer, options)
    sys.stdout.flush()
    return READY if report.training_ready else NOT_READY


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brightrun validate",
        allow_abbrev=False,
        description="Check a training file, line by line. No server and no database are needed.",
        epilog="Exit status: 0 ready to train on, 1 not ready, 2 the file or the command line cannot be read.",
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the training file")
    add("--format", default="auto", metavar="NAME", help="the format it must have (auto: by its content)")
    add(
        "--checks",
        default="default",
        choices=("structure", "default", "full"),
        help="structure: compares no records; default: also exact duplicates and cheap looks at the texts; full: all",
    )
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--model", metavar="NAME", help="count tokens exactly, and render each row, as this base model")
    tokens.add_argument("--estimate-tokens", action="store_true", help="estimate tokens as words × 1.3")
    add("--max-length", type=_positive, metavar="N", help="with --model: name what N tokens a row would cut")
    add(
        "--threshold",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="from when on a check of content speaks; repeatable (docs/reference/thresholds.md)",
    )
    add(
        "--heldout",
        type=Path,
        metavar="IDS",
        help="with --checks full: ids of conversations kept for the test (one a line, or a run.json), to name those "
        "that training sees",
    )
    add("--no-cache", dest="cache", action="store_false", help="with --model: count again what was counted before")
    issues = parser.add_mutually_exclusive_group()
    issues.add_argument("--all-issues", action="store_true", help=f"every issue, not the first {MAX_ISSUES:,}")
    issues.add_argument(
        "--issues-out", type=Path, metavar="LIST", help="write every issue to LIST: CSV if it ends in .csv, else JSONL"
    )
    add("--repair", type=Path, metavar="OUT", help="write a copy with every mendable finding mended to OUT")
    add("--repair-log", type=Path, metavar="LOG", help="with --repair: write each change to LOG, as JSONL")
    add("--workers", type=_positive, metavar="N", help="processes that read the file (default: as many as help)")
    add("--json", action="store_true", help="one JSON object on stdout, everything else on stderr")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) < 1 << 31:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)


def _answer(options: argparse.Namespace) -> tuple[dict[str, Any], Report]:
    """What is shown, and the report on the input that it is made from."""
    try:
        limits = limits_of(os.environ)
    except ValueError as error:
        raise _Failure("invalid_setting", str(error)) from error
    try:
        options.thresholds = parse_thresholds(options.threshold)
    except ValueError as error:
        raise _Failure("invalid_option", str(error)) from error
    try:
        _check_outputs(options)
        report = _into_list(options, lambda **further: _validate(options.file, options, limits, **further))
        answer = report.to_dict()
        if options.repair is not None:
            answer["repaired"] = _repair(options, limits)
    except OSError as error:
        raise _Failure("unreadable", f"{error.strerror or error}: {error.filename or options.file}") from error
    except ValueError as error:
        raise _Failure("unreadable", str(error)) from error
    return answer, report


def _check_outputs(options: argparse.Namespace) -> None:
    outputs = [out for out in (options.repair, options.repair_log, options.issues_out) if out is not None]
    if not outputs:
        return
    from brightrun.cli.out_file import OutRefusedError, check_out

    try:
        for number, out in enumerate(outputs):
            check_out(out, options.file, *outputs[:number])
    except OutRefusedError as error:
        raise _Failure("invalid_output", str(error)) from error


def _validate(file: Path, options: argparse.Namespace, limits: Limits, **further: Any) -> Report:
    view = None if options.model is None else _view(file, options, limits)
    report = validate(
        file,
        format=options.format,
        checks=options.checks,
        max_record_bytes=limits.max_record_bytes,
        compare_memory_bytes=limits.compare_memory_bytes,
        max_issues=None if options.all_issues else MAX_ISSUES,
        estimate_tokens=options.estimate_tokens,
        thresholds=options.thresholds,
        heldout=None if options.heldout is None else _heldout_ids(options.heldout),
        workers=options.workers,
        **({} if view is None else view.arguments()),
        **further,
    )
    if view is not None:
        view.complete(report)
    return report


def _heldout_ids(file: Path) -> set[str]:
    """Ids as a list, one a line, or as a run has frozen them. Raises OSError, ValueError."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8; it must hold ids, one a line, or be a run.json.") from error
    if not text.lstrip().startswith("{"):
        return {line.strip() for line in text.splitlines() if line.strip()}
    try:
        ids = json.loads(text)["split"]["heldout_ids"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no run.json: it has no `split.heldout_ids`.") from error
    return set(map(str, ids))


def _view(file: Path, options: argparse.Namespace, limits: Limits) -> "ModelView":
    from platformdirs import user_cache_path

    from brightrun.formats.chat_errors import ChatError
    from brightrun.formats.model_folder import ModelFolderError
    from brightrun.formats.model_tokenizers import load_tokenizer, tokenizer_folder_of, tokenizer_sha256
    from brightrun.formats.token_cache import TokenCache, file_sha256
    from brightrun.settings import get_settings
    from brightrun.validation.model_view import Memory, ModelView

    folder = get_settings().base_model_dir
    memory = None
    try:
        tokenizer = load_tokenizer(options.model, folder)
        if options.cache and file.is_file():
            model_sha256 = tokenizer_sha256(tokenizer_folder_of(options.model, folder))
            memory = Memory(TokenCache(user_cache_path("brightrun") / "tokens"), file_sha256(file), model_sha256)
    except (ModelFolderError, ChatError) as error:
        raise _Failure("no_tokenizer", f"The model {options.model}: {error}") from error
    # A record above the limit is skipped, so another limit is another reading.
    read_as = f"{options.format}, records up to {limits.max_record_bytes} bytes"
    return ModelView(tokenizer, options.model, max_length=options.max_length, memory=memory, data_format=read_as)


def _into_list(options: argparse.Namespace, validates: Callable[..., Report]) -> Report:
    """The report of `validates`; every issue goes into the file that was asked for, which appears when it is whole."""
    if options.issues_out is None:
        return validates()
    from brightrun.cli.out_file import whole_file
    from brightrun.validation.issue_file import IssueWriter, kind_of

    with whole_file(options.issues_out) as part, part.open("wb", buffering=1 << 20) as stream:
        report = validates(issue_sink=IssueWriter(stream, kind_of(options.issues_out.name)).write)
        stream.flush()
    return report


def _repair(options: argparse.Namespace, limits: Limits) -> dict[str, Any]:
    from brightrun.cli.repairing import mend_into

    return mend_into(
        options.file,
        options.repair,
        options.repair_log,
        format=options.format,
        checks=options.checks,
        max_record_bytes=limits.max_record_bytes,
        validates=lambda part: _validate(part, options, limits),
    )


def _as_json(answer: dict[str, Any], report: Report) -> str:
    return report.to_json() if "repaired" not in answer else json.dumps(answer, ensure_ascii=False)


def _print(answer: dict[str, Any], options: argparse.Namespace) -> None:
    from brightrun.cli.readiness import print_readiness

    print(f"{answer['file']}: {answer['format'] or 'no known format'} ({answer['format_reason']})")
    tokens = "not counted" if answer["tokens"] is None else f"{answer['tokens']:,} ({answer['tokens_source']})"
    print(
        f"  {answer['lines']:,} lines, {answer['records']:,} records, {answer['conversations']:,} conversations, "
        f"{answer['training_pairs']:,} training pairs, {answer['turns']:,} turns; tokens: {tokens}"
    )
    for issue in answer["issues"]:
        where = f"line {issue['line']:,}" + (f", {issue['path']}" if issue["path"] else "")
        print(f"  {issue['severity']:7} {where}: {issue['message']} [{issue['code']}]")
        if issue["suggestion"]:
            print(f"          {issue['suggestion']}")
    if options.issues_out is not None:
        print(f"  every issue is in {options.issues_out}")
    elif answer["issues_truncated"]:
        print("  … and more: --all-issues shows every one, --issues-out LIST writes them down")
    print_readiness(answer)
    if other := changed(answer["thresholds"]):
        print(f"  thresholds other than usual: {', '.join(f'{name} {value:g}' for name, value in other.items())}")
    if answer["checks_skipped"]:
        print(f"  not looked for: {', '.join(answer['checks_skipped'])}")
    if mended := answer.get("repaired"):
        print(f"  repaired {mended['changes']:,} places into {mended['out']}; {mended['unfixed']:,} findings are left")
    verdict = "ready to train on" if answer["training_ready"] else "not ready to train on"
    print(f"  {answer['errors_total']:,} errors, {answer['warnings_total']:,} warnings: {verdict}")
