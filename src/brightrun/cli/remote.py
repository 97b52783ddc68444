"""What commands that talk to a server share: where it is, how answers are shown, progress bars."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from brightrun.sdk import Client

UrlOption = Annotated[
    str | None, typer.Option("--url", help="The server. Default: BRIGHTRUN_URL, else 127.0.0.1:8321.")
]
TokenOption = Annotated[str | None, typer.Option("--token", help="API token. Default: BRIGHTRUN_TOKEN.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The API's own answer as JSON on stdout.")]


_WIDEST = 10_000
"""Columns of what is no terminal: a pipe, a file."""


def connect(url: str | None, token: str | None) -> "Client":
    from brightrun.sdk import Client

    return Client(url, token)


def show(answer: Any, *, as_json: bool, text: Callable[[], None]) -> None:
    """JSON alone on stdout, or what people read."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        text()


def table(columns: dict[str, Callable[[dict[str, Any]], str]], rows: list[dict[str, Any]]) -> None:
    """A line a row, except where a terminal is too narrow; ids stay whole there too, to be copied."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        made.add_column(title, overflow="fold", no_wrap=title == "id")
    for row in rows:
        made.add_row(*(cell(row) for cell in columns.values()))
    Console(width=None if sys.stdout.isatty() else _WIDEST).print(made)


@contextmanager
def bytes_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left, on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield update


def size(number: int | None) -> str:
    if number is None:
        return "–"
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
