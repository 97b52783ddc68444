"""`brightrun datasets …`: what the dataset pages do, from a terminal."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli import dataset_findings
from brightrun.cli.readiness import print_readiness
from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, bytes_progress, connect, show, size, table

app = typer.Typer(no_args_is_help=True, help="Upload, list, show, confirm, delete and restore datasets.")
dataset_findings.register(app)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The dataset's id.")]


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="Training file.", exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    data_format: Annotated[str | None, typer.Option("--format", help="Default: detected from the content.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with the upload of this dataset id.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is checked.")] = True,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a training file and have it checked. Exit 1 when it is not ready to train on."""
    with connect(url, token) as client:
        if resume is None:
            made = client.datasets.create(
                name=name or file.name,
                description=description,
                format=data_format,
                file_name=file.name,
                file_size=file.stat().st_size,
            )
            resume = made["dataset"]["id"]
            print(f"dataset {resume} (an upload that breaks off goes on with --resume {resume})", file=sys.stderr)
        with bytes_progress(file.name) as progress:
            dataset = client.datasets.upload(file, resume=resume, progress=progress)
        if wait:
            print("checking…", file=sys.stderr)
            dataset = client.datasets.wait(dataset["id"])
    show(dataset, as_json=as_json, text=lambda: _print(dataset))
    if wait and not dataset["training_ready"]:
        raise typer.Exit(1)


@app.command("list")
def list_(
    page: int = 1,
    limit: int = 25,
    status: Annotated[str | None, typer.Option(help="uploading, validating, ready or error.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    data_format: Annotated[str | None, typer.Option("--format", help="One format only.")] = None,
    sort: Annotated[str | None, typer.Option(help="name, -created_at, file_size, …")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="The trash: what `restore` can bring back.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List datasets, newest first."""
    with connect(url, token) as client:
        answer = client.datasets.list(
            page=page, limit=limit, status=status, search=search, format=data_format, sort=sort, deleted=deleted or None
        )
    columns = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "status": lambda row: row["status"],
        "format": lambda row: row["format"] or "–",
        "conversations": lambda row: str(row["total_conversations"] if row["total_conversations"] is not None else "–"),
        "size": lambda row: size(row["file_size"]),
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["items"]))
    if not as_json and answer["total"] > len(answer["items"]):
        print(f"{len(answer['items'])} of {answer['total']}; --page {page + 1} shows more", file=sys.stderr)


@app.command("show")
def show_(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show one dataset: its numbers, what is advised, and its first issues."""
    with connect(url, token) as client:
        dataset = client.datasets.get(dataset_id)
        report = None
        if not as_json and dataset["total_records"] is not None:
            report = client.datasets.validation(dataset_id)
    show(dataset, as_json=as_json, text=lambda: _print(dataset, report))


@app.command()
def issues(
    dataset_id: IdArgument,
    code: Annotated[str | None, typer.Option(help="One kind only; `datasets show` names them.")] = None,
    severity: Annotated[str | None, typer.Option(help="error, warning or info.")] = None,
    line: Annotated[int | None, typer.Option(help="One line only.")] = None,
    dismissed: Annotated[bool | None, typer.Option("--dismissed/--not-dismissed", help="Default: both.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Every issue into this file: CSV by its name (.csv), else JSON Lines.")
    ] = None,
    page: int = 1,
    limit: int = 25,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was found in a dataset, or write all of it to a file."""
    with connect(url, token) as client:
        if out is not None:
            if any(wanted is not None for wanted in (code, severity, line, dismissed)):
                raise typer.BadParameter("--out writes the complete list; leave the filters out")
            kind = "csv" if out.suffix.lower() == ".csv" else "jsonl"
            with bytes_progress(out.name) as progress:
                client.datasets.download_issues(dataset_id, out, format=kind, progress=progress)
            print(f"wrote {out}", file=sys.stderr)
            return
        answer = client.datasets.issues(
            dataset_id, page=page, limit=limit, code=code, severity=severity, line=line, dismissed=dismissed
        )
    show(answer, as_json=as_json, text=lambda: _print_issues(answer["items"]))
    if not as_json and answer["total"] > len(answer["items"]):
        print(f"{len(answer['items'])} of {answer['total']:,}; --page {page + 1} shows more", file=sys.stderr)


@app.command()
def confirm(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Say that the upload is whole; a dataset that was checked already is checked again."""
    with connect(url, token) as client:
        dataset = client.datasets.confirm(dataset_id)
    show(dataset, as_json=as_json, text=lambda: _print(dataset))


@app.command()
def delete(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Delete a dataset; `restore` brings it back until it is purged."""
    with connect(url, token) as client:
        dataset = client.datasets.delete(dataset_id)
    show(
        dataset,
        as_json=as_json,
        text=lambda: print(f"deleted {dataset['name']}; `brightrun datasets restore {dataset_id}` undoes it"),
    )


@app.command()
def restore(
    dataset_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Bring a deleted dataset back."""
    with connect(url, token) as client:
        dataset = client.datasets.restore(dataset_id)
    show(dataset, as_json=as_json, text=lambda: print(f"restored {dataset['name']}"))


def _print(dataset: dict[str, Any], report: dict[str, Any] | None = None) -> None:
    print(f"{dataset['name']}: {dataset['status']}")
    print(f"  id {dataset['id']}, {dataset['file_name']}, {size(dataset['file_size'])}")
    if dataset["total_records"] is not None:
        print(
            f"  {dataset['format']}: {dataset['total_conversations']:,} conversations, "
            f"{dataset['total_training_pairs']:,} training pairs, {dataset['total_turns']:,} turns, "
            f"{dataset['total_tokens'] or 0:,} tokens ({dataset['tokens_source']})"
        )
    if dataset["error_message"]:
        print(f"  {dataset['error_message']}")
    for code, number in sorted((dataset["issue_counts"] or {}).items(), key=lambda entry: -entry[1]):
        print(f"  {number:7,} × {code}")
    if report is not None:
        print_readiness(report)
    _print_issues((dataset["validation_errors"] or [])[:20])


def _print_issues(issues: list[dict[str, Any]]) -> None:
    for issue in issues:
        where = f"line {issue['line']}" + (f", {issue['path']}" if issue.get("path") else "")
        print(f"  {issue['severity']:7} {where}: {issue['message']} [{issue['code']}]")
        if issue.get("dismissed"):
            print(f"          dismissed by {issue['dismissed']['by']}: {issue['dismissed']['reason']}")
