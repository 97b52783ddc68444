"""`brightrun datasets repair|versions|dismiss|dismissals|take-back|convert|download`: findings dealt with, from a
terminal."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, bytes_progress, connect, show, table

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.")]


def repair(
    dataset_id: IdArgument,
    code: Annotated[list[str] | None, typer.Option(help="All findings of this kind; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the new version.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what would be mended.")] = False,
    page: int = 1,
    limit: int = 25,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the new version is checked.")] = True,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mend a dataset into a new version; without --code everything that can be mended. Exit 1 when the version is not
    ready to train on."""
    with connect(url, token) as client:
        if preview:
            answer = client.datasets.preview_repair(dataset_id, codes=code or [], page=page, limit=limit)
            show(answer, as_json=as_json, text=lambda: _print_changes(answer))
            return
        made = client.datasets.repair(dataset_id, codes=code or [], name=name)
        if wait:
            print("mending and checking…", file=sys.stderr)
            made = client.datasets.wait(made["id"])
    show(made, as_json=as_json, text=lambda: _print_version(made))
    if wait and not made["training_ready"]:
        raise typer.Exit(1)


def versions(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List all versions of a dataset, the first first."""
    with connect(url, token) as client:
        rows = client.datasets.versions(dataset_id)
    columns = {
        "version": lambda row: str(row["version"]),
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "status": lambda row: row["status"],
        "changes": lambda row: str(sum(row["repair_counts"].values())) if row["repair_counts"] is not None else "–",
    }
    show(rows, as_json=as_json, text=lambda: table(columns, rows))


def changes(
    dataset_id: IdArgument,
    out: Annotated[Path, typer.Option(help="File for the log, JSON Lines.")],
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Write the log of every change that made this version."""
    with connect(url, token) as client, bytes_progress(out.name) as progress:
        client.datasets.download_changes(dataset_id, out, progress=progress)
    print(f"wrote {out}", file=sys.stderr)


def dismiss(
    dataset_id: IdArgument,
    code: Annotated[str, typer.Option(help="Kind of the warning.")],
    reason: Annotated[str, typer.Option(help="Why it may stand; kept with your name.")],
    line: Annotated[int | None, typer.Option(help="Only the one on this line; default: all of the kind.")] = None,
    path: Annotated[str | None, typer.Option(help="Only the one in this field of the line.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a warning stand, with who, when and why."""
    with connect(url, token) as client:
        made = client.datasets.dismiss(dataset_id, code=code, reason=reason, line=line, path=path)
    show(made, as_json=as_json, text=lambda: _print_dismissals(made))


def dismissals(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List the warnings that were dismissed, newest first."""
    with connect(url, token) as client:
        rows = client.datasets.dismissals(dataset_id)
    show(rows, as_json=as_json, text=lambda: _print_dismissals(rows))


def take_back(
    dataset_id: IdArgument,
    dismissal_id: Annotated[str, typer.Argument(metavar="DISMISSAL", help="As `dismissals` lists it.")],
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a dismissal back: the warning counts again."""
    with connect(url, token) as client:
        row = client.datasets.take_back(dataset_id, dismissal_id)
    show(row, as_json=as_json, text=lambda: print(f"{row['code']} counts again"))


def convert(
    dataset_id: IdArgument,
    to: Annotated[str, typer.Option(help="Format of the file.")],
    out: Annotated[Path, typer.Option(help="File to write, JSON Lines.")],
    allow_loss: Annotated[bool, typer.Option("--allow-loss", help="Exit 0 although something was lost.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a dataset in another format. Exit 1 when the format cannot hold all of it."""
    with connect(url, token) as client:
        told = client.datasets.conversion(dataset_id, to)
        with bytes_progress(out.name) as progress:
            client.datasets.download_converted(dataset_id, to, out, progress=progress)
    show(told, as_json=as_json, text=lambda: _print_conversion(told, out))
    if (told["dropped_fields"] or told["unwritten_total"]) and not allow_loss:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to `brightrun datasets`."""
    for command in (repair, versions, changes, dismiss, dismissals, convert):
        app.command()(command)
    app.command("take-back")(take_back)


def _print_changes(answer: dict[str, Any]) -> None:
    for found in answer["items"]:
        where = f"line {found['line']}" + (f", {found['path']}" if found["path"] else "")
        print(f"  {where} [{found['code']}]")
        if found["before"] is None:
            print("      needs your judgement")
        else:
            print(f"    - {found['before']}\n    + {found['after'] or '(taken out)'}")
    print(f"{len(answer['items'])} of {answer['total']:,}", file=sys.stderr)


def _print_version(made: dict[str, Any]) -> None:
    print(f"{made['name']}: {made['status']}\n  id {made['id']}")
    for code, number in sorted((made["repair_counts"] or {}).items()):
        print(f"  {number:7,} × {code} mended")


def _print_dismissals(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        where = "all" if row["line"] is None else f"line {row['line']} {row['path'] or ''}".rstrip()
        print(f"  {row['id']}  {row['code']}, {where}: {row['reason']} ({row['by'] or 'account gone'}, {row['at']})")


def _print_conversion(told: dict[str, Any], out: Path) -> None:
    print(f"wrote {told['written']:,} records to {out}", file=sys.stderr)
    for field in told["dropped_fields"]:
        print(f"  lost: {field['path']}, {field['n']:,} times")
    if told["unwritten_total"]:
        print(f"  not written: {told['unwritten_total']:,} records")
    for record in told["unwritten"][:20]:
        print(f"    line {record['line']:,}: {record['reason']}")
