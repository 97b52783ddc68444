"""`brightrun validate FILE`: the validator alone, without server or database."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli.readiness import print_readiness

READY, NOT_READY, UNREADABLE = 0, 1, 2


def validate(
    file: Annotated[Path, typer.Argument(help="Training file.")],
    data_format: Annotated[
        str, typer.Option("--format", help="The format it must have. auto: by its content.")
    ] = "auto",
    checks: Annotated[str, typer.Option(help="structure, default or full.")] = "default",
    estimate_tokens: Annotated[bool, typer.Option(help="Estimate tokens as words × 1.3.")] = False,
    all_issues: Annotated[bool, typer.Option(help="Every issue, not the first 1,000.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Check a training file, line by line. Exit 0: ready to train on. 1: not. 2: the file cannot be read."""
    from brightrun.validation import validate as check

    try:
        report = check(
            file,
            format=data_format,
            checks=checks,  # type: ignore[arg-type]  # an unknown level is refused by name below
            max_issues=None if all_issues else 1000,
            estimate_tokens=estimate_tokens,
        )
    except (OSError, ValueError) as error:
        message = f"{error.strerror}: {file}" if isinstance(error, OSError) and error.strerror else str(error)
        if as_json:
            print(json.dumps({"file": str(file), "error": message, "code": "unreadable"}))
        print(f"brightrun: {message}", file=sys.stderr)
        raise typer.Exit(UNREADABLE) from None
    if as_json:
        print(report.to_json())
    else:
        _print(report.to_dict())
    raise typer.Exit(READY if report.training_ready else NOT_READY)


def _print(report: dict[str, Any]) -> None:
    print(f"{report['file']}: {report['format']} ({report['format_reason']})")
    tokens = "not counted" if report["tokens"] is None else f"{report['tokens']:,} ({report['tokens_source']})"
    print(
        f"  {report['lines']:,} lines, {report['records']:,} records, {report['conversations']:,} conversations, "
        f"{report['training_pairs']:,} training pairs, {report['turns']:,} turns; tokens: {tokens}"
    )
    for issue in report["issues"]:
        where = f"line {issue['line']}" + (f", {issue['path']}" if issue["path"] else "")
        print(f"  {issue['severity']:7} {where}: {issue['message']} [{issue['code']}]")
        if issue["suggestion"]:
            print(f"          {issue['suggestion']}")
    if report["issues_truncated"]:
        print("  … and more: --all-issues shows every one")
    print_readiness(report)
    verdict = "ready to train on" if report["training_ready"] else "not ready to train on"
    print(f"  {report['errors_total']:,} errors, {report['warnings_total']:,} warnings: {verdict}")
