"""`brightrun batches …`: conversations written in batches."""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, connect, show, table
from brightrun.cli.runtime import DataOption, installation, settings_with, start_logging
from brightrun.errors import BrightRunError, InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Write conversations in batches: run, list, show, pause, resume, cancel.")


@app.callback()
def batches() -> None:
    """Write conversations in batches."""


FINISHED, ERROR, BAD_PLAN, CAPPED = 0, 1, 2, 3


@app.command()
def run(
    plan: Annotated[Path, typer.Option("--plan", help="The plan: JSON with `pack` and `items` or `quotas`.")],
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Requests on their way at once.")] = 16,
    max_cost: Annotated[
        str | None, typer.Option("--max-cost", metavar="USD", help="The whole plan may cost this much and no more.")
    ] = None,
    via: Annotated[
        str, typer.Option(help="sync: one by one, now. batch: the provider's batches, at half the price.")
    ] = "sync",
    max_attempts: Annotated[
        int, typer.Option(min=1, max=20, help="How often one conversation is sent at most, if its answers are no use.")
    ] = 3,
    retry_failed: Annotated[
        str | None,
        typer.Option("--retry-failed", metavar="CLASSES", help="Send failed ones again: `all`, or classes."),
    ] = None,
    on_error: Annotated[
        str, typer.Option("--on-error", help="continue, or stop at the first that fails for good.")
    ] = "continue",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry a plan out, to its end or to its cap. The same command again goes on where it stopped.

    Needs no running server. Exit status: 0 finished (failed conversations included), 3 stopped by the cap, 1 an error,
    2 a plan that cannot be carried out: nothing was sent.
    """
    raise typer.Exit(
        _run(plan, concurrency, max_cost, via, max_attempts, retry_failed, on_error, data, as_json=as_json)
    )


def carry_out(plan: Path, *, max_cost: str | None, data: Path | None, as_json: bool) -> int:
    """A plan of one, with the options that need no saying."""
    return _run(plan, 1, max_cost, "sync", 3, None, "continue", data, as_json=as_json)


def _run(
    plan_file: Path,
    concurrency: int,
    max_cost: str | None,
    via: str,
    max_attempts: int,
    retry_failed: str | None,
    on_error: str,
    data: Path | None,
    *,
    as_json: bool,
) -> int:
    from brightrun.generation.plan import read_plan

    settings = settings_with(data)
    start_logging(settings, "batches")
    try:
        options = _options(concurrency, max_cost, via, max_attempts, retry_failed, on_error)
        plan = read_plan(_bytes_of(plan_file))
        from brightrun.cli.batch_run import Job

        settings.data.mkdir(parents=True, exist_ok=True)
        with installation(settings) as installed:
            result = _run_async(Job(settings, installed, plan, options, say=_say).run())
    except InvalidInputError as error:
        return _told(error, BAD_PLAN, as_json=as_json)
    except BrightRunError as error:
        return _told(error, ERROR, as_json=as_json)
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    else:
        _print(result)
    return {"finished": FINISHED, "cap": CAPPED}.get(result["stopped_reason"], ERROR)


def _run_async(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """On uvloop where it is installed. Answers make many small objects and hardly a cycle: the collector looks less."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _options(
    concurrency: int, max_cost: str | None, via: str, max_attempts: int, retry_failed: str | None, on_error: str
) -> dict[str, Any]:
    cap: Decimal | None = None
    if max_cost is not None:
        try:
            cap = Decimal(max_cost.removeprefix("$"))
        except InvalidOperation:
            raise InvalidInputError(f"--max-cost {max_cost!r} is no amount of US dollars") from None
        if not cap.is_finite() or not 0 < cap < 1_000_000:
            raise InvalidInputError(f"--max-cost {max_cost}: between 0 and a million US dollars")
    if via not in {"sync", "batch"}:
        raise InvalidInputError(f"--via {via!r}: sync or batch")
    if on_error not in {"continue", "stop"}:
        raise InvalidInputError(f"--on-error {on_error!r}: continue or stop")
    classes: list[str] | None = None
    if retry_failed is not None and retry_failed not in {"", "all"}:
        from brightrun.llm.calls import Outcome

        classes = [name.strip() for name in retry_failed.split(",") if name.strip()]
        for name in classes:
            if name not in set(Outcome) - {Outcome.OK}:
                raise InvalidInputError(f"--retry-failed {name!r}: there are {', '.join(set(Outcome) - {Outcome.OK})}")
    return {
        "concurrency": concurrency, "max_cost": cap, "via": via, "max_attempts": max_attempts, "on_error": on_error,
        "retry": retry_failed is not None, "classes": classes,
    }  # fmt: skip


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}") from error


def _told(error: BrightRunError, status: int, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.message, "code": error.code, "details": error.details}), flush=True)
    print(f"brightrun: {error.message}", file=sys.stderr)
    return status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(result: dict[str, Any]) -> None:
    failed = ", ".join(f"{n} {name}" for name, n in result["failed_by_class"].items())
    words = [f"{result['written']:,} of {result['planned']:,} written"]
    words += [f"failed: {failed}"] if failed else []
    words += [f"{result['pending']:,} left"] if result["pending"] else []
    print(f"{result['stopped_reason']}: {', '.join(words)}")
    cost = "unknown (no price)" if result["cost_usd"] is None else f"${result['cost_usd']:.4f}"
    print(f"  {result['requests_sent']:,} requests sent, {result['requests_reused']:,} answers reused, cost {cost}")
    if result["cost_unknown_max_usd"]:
        print(f"  the end of some requests is unknown: at most ${result['cost_unknown_max_usd']:.4f} more")
    if result.get("error"):
        print(f"  {result['error']}")


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The batch's id.")]


@app.command("list")
def list_(
    page: int = 1,
    limit: int = 25,
    status: Annotated[str | None, typer.Option()] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List batches of a server, newest first."""
    with connect(url, token) as client:
        answer = client.batches.list(page=page, limit=limit, status=status)
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "status": lambda row: row["status"],
        "written": lambda row: f"{row['written']:,}/{row['planned']:,}",
        "failed": lambda row: f"{sum(row['failed_by_class'].values()):,}",
        "cost": lambda row: "unknown" if row["cost_usd"] is None else f"${float(row['cost_usd']):.2f}",
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["items"]))


@app.command("show")
def show_(batch_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Show one batch."""
    with connect(url, token) as client:
        batch = client.batches.get(batch_id)
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))


@app.command()
def start(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")],
    concurrency: Annotated[int, typer.Option(min=1, max=1000)] = 16,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD")] = None,
    via: Annotated[str, typer.Option(help="sync or batch.")] = "sync",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until it ends.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a server's worker carry a plan out. Exit 1 if it was watched and did not complete."""
    document = _document(plan)
    with connect(url, token) as client:
        batch = client.batches.create(plan=document, concurrency=concurrency, max_cost_usd=max_cost, via=via)
        if wait:
            batch = client.batches.wait(batch["id"])
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))
    if wait and batch["status"] != "completed":
        raise typer.Exit(1)


@app.command()
def pause(batch_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Nothing more leaves; what is on its way comes in."""
    with connect(url, token) as client:
        batch = client.batches.pause(batch_id)
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))


@app.command()
def resume(
    batch_id: IdArgument,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="A new cap.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with what is left."""
    with connect(url, token) as client:
        batch = client.batches.resume(batch_id, max_cost_usd=max_cost)
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))


@app.command()
def cancel(batch_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Send nothing more; what was received is kept."""
    with connect(url, token) as client:
        batch = client.batches.cancel(batch_id)
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))


@app.command()
def retry(
    batch_id: IdArgument,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Of this class only. Repeatable.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send failed conversations again."""
    with connect(url, token) as client:
        batch = client.batches.retry(batch_id, classes=classes)["batch"]
    show(batch, as_json=as_json, text=lambda: _print_batch(batch))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_bytes_of(path))
    except ValueError as error:
        raise InvalidInputError(f"{path} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInputError(f"{path} is no plan: a JSON object with `pack` and `items` or `quotas`")
    return document


def _print_batch(batch: dict[str, Any]) -> None:
    print(f"{batch['name']}: {batch['status']}")
    cost = "unknown cost" if batch["cost_usd"] is None else f"${float(batch['cost_usd']):.4f}"
    print(f"  id {batch['id']}, {batch['written']:,} of {batch['planned']:,} written, {cost}, {batch['model']}")
    for name, count in batch["failed_by_class"].items():
        print(f"  {count:,} failed, {name}: {batch['suggestions'].get(name, '')}")
    if batch["error_message"]:
        print(f"  {batch['error_message']}")
