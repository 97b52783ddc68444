"""`brightrun jobs …`: training jobs from a terminal."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brightrun.cli.remote import JsonOption, TokenOption, UrlOption, connect, show, table

if TYPE_CHECKING:
    from brightrun.sdk import Client

app = typer.Typer(no_args_is_help=True, help="Start, watch, pause, resume, list and cancel training jobs.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


@app.command()
def start(
    dataset_id: Annotated[str, typer.Argument(metavar="DATASET_ID")],
    preset: Annotated[str | None, typer.Option(help="conservative, balanced (default), aggressive or custom.")] = None,
    template: Annotated[
        str | None, typer.Option(help="A saved configuration, by name or id; what is given besides goes before it.")
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="tiny, tiny-random, a name, a folder, or a hub id.")] = None,
    name: Annotated[str | None, typer.Option()] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A hyperparameter: key=value. Repeatable.")
    ] = None,
    max_cost: Annotated[str | None, typer.Option(help="US dollars; it saves and stops before it costs more.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high (for owners and admins).")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until it ends.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start training on a dataset."""
    values = _parsed(settings)
    with connect(url, token) as client:
        job = client.jobs.create(
            dataset_id=dataset_id,
            template_id=_template_id(client, template) if template else None,
            preset_id=preset,
            base_model=base_model,
            name=name,
            hyperparameters=values or None,
            max_cost_usd=max_cost,
            priority=priority,
        )
        if wait:
            job = client.jobs.wait(job["id"], _say)
    show(job, as_json=as_json, text=lambda: _print(job))
    if wait and job["status"] != "completed":
        raise typer.Exit(1)


@app.command()
def templates(
    page: int = 1,
    limit: int = 25,
    search: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List saved configurations: `jobs start --template NAME` uses one."""
    with connect(url, token) as client:
        answer = client.jobs.templates(page=page, limit=limit, search=search)
    columns = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "preset": lambda row: row["preset_id"],
        "base model": lambda row: row["base_model"] or "–",
        "set": lambda row: ", ".join(f"{name}={value}" for name, value in row["overrides"].items()) or "–",
        "used": lambda row: str(row["jobs"]),
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["items"]))


@app.command("save-template")
def save_template(
    job_id: IdArgument,
    name: Annotated[str, typer.Option(help="What it is to be called.")],
    description: Annotated[str | None, typer.Option()] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save the configuration of a job as a template."""
    with connect(url, token) as client:
        saved = client.jobs.save_template(name=name, job_id=job_id, description=description)
    show(saved, as_json=as_json, text=lambda: print(f"{saved['name']}: {saved['id']}"))


@app.command()
def diff(
    left: Annotated[str, typer.Argument(help="A job's id, or template:NAME.")],
    right: Annotated[str, typer.Argument(help="A job's id, or template:NAME.")],
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what tells two configurations apart."""
    with connect(url, token) as client:
        found = client.jobs.diff(*(_side(client, text) for text in (left, right)))
    differing = [line for line in found["lines"] if not line["equal"]]
    columns = {
        "setting": lambda line: line["field"].removeprefix("hyperparameters."),
        f"first: {found['left']['name']}": lambda line: str(line["left"]),
        f"second: {found['right']['name']}": lambda line: str(line["right"]),
    }
    show(found, as_json=as_json, text=lambda: table(columns, differing) if differing else print("Nothing differs."))


@app.command()
def watch(job_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Follow a job until it ends. Exit 1 unless it completed."""
    with connect(url, token) as client:
        job = client.jobs.wait(job_id, _say)
    show(job, as_json=as_json, text=lambda: _print(job))
    if job["status"] != "completed":
        raise typer.Exit(1)


@app.command("list")
def list_(
    page: int = 1,
    limit: int = 25,
    status: Annotated[
        list[str] | None, typer.Option(help="queued, running, completed, … Repeatable: any of them.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Repeatable: all of them.")] = None,
    dataset: Annotated[str | None, typer.Option(help="A dataset's id.")] = None,
    base_model: Annotated[str | None, typer.Option()] = None,
    preset: Annotated[str | None, typer.Option()] = None,
    by: Annotated[str | None, typer.Option(help="Who started it: a member's id.")] = None,
    since: Annotated[str | None, typer.Option(help="Created then or later: 2026-01-31, or with a time.")] = None,
    until: Annotated[str | None, typer.Option(help="Created before.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name, the dataset's, a tag or a note.")] = None,
    archived: Annotated[str | None, typer.Option(help="no (as it is without), only, or all.")] = None,
    sort: Annotated[str | None, typer.Option(help="created_at, name, cost, …; `-` in front: descending.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with connect(url, token) as client:
        answer = client.jobs.list(
            page=page,
            limit=limit,
            status=status or None,
            tag=tag or None,
            dataset_id=dataset,
            base_model=base_model,
            preset_id=preset,
            created_by=by,
            since=_moment(since),
            until=_moment(until),
            search=search,
            archived=archived,
            sort=sort,
        )
    columns = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"] or "–",
        "status": lambda row: row["status"],
        "progress": lambda row: f"{float(row['progress']):.0f} %",
        "cost": lambda row: f"${float(row['cost_usd']):.2f}",
        "tags": lambda row: ", ".join(row["tags"]),
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["items"]))


@app.command()
def bulk(
    action: Annotated[
        str, typer.Argument(help="cancel, pause, resume, retry, tag, untag, priority, archive or unarchive.")
    ],
    ids: Annotated[list[str], typer.Argument(metavar="ID…")],
    tag: Annotated[list[str] | None, typer.Option(help="To add, or to take away. Repeatable.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    reason: Annotated[str | None, typer.Option(help="Of a cancellation or a priority.")] = None,
    note: Annotated[str | None, typer.Option(help="Of a cancellation.")] = None,
    checkpoint: Annotated[bool, typer.Option("--checkpoint/--now", help="Cancel: save a checkpoint first?")] = True,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do one thing to many jobs; says of each what became of it. Exit 1 when one was refused."""
    with connect(url, token) as client:
        answer = client.jobs.bulk(
            action, ids, tags=tag or None, priority=priority, reason=reason, note=note, checkpoint=checkpoint
        )
    columns = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"] or "–",
        "done": lambda row: "yes" if row["ok"] else "no",
        "what became of it": lambda row: row["message"],
    }
    show(answer, as_json=as_json, text=lambda: table(columns, answer["results"]))
    if answer["refused"]:
        raise typer.Exit(1)


@app.command()
def compare(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Two to four jobs.")],
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs side by side: what differs, what each cost, and whether one is proven to be better."""
    with connect(url, token) as client:
        answer = client.jobs.compare(ids)

    def write() -> None:
        names = [run["job"]["name"] for run in answer["runs"]]
        for run in answer["runs"]:
            job = run["job"]
            loss = "–" if job["heldout_loss_adapter"] is None else f"{job['heldout_loss_adapter']:.4f}"
            print(f"{job['name']}: {job['status']}, held-out loss {loss}, {run['seconds']:.0f} s, ${job['cost_usd']}")
        for line in answer["lines"]:
            if not line["equal"]:
                print(f"  {line['label']}: {' | '.join(str(value) for value in line['values'])}")
        for pair in answer["pairs"]:
            said = pair["verdict"].replace("_", " ")
            print(f"{names[pair['first']]} / {names[pair['second']]}: {said}. {pair['reason']}")

    show(answer, as_json=as_json, text=write)


@app.command()
def tag(
    job_id: IdArgument,
    add: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tags of a job, or change them."""
    from brightrun.errors import ConflictError

    with connect(url, token) as client:
        for action, tags in (("tag", add), ("untag", remove)):
            if tags:
                [result] = client.jobs.bulk(action, [job_id], tags=tags)["results"]
                if not result["ok"]:
                    raise ConflictError(result["message"], code=result["code"])
        tags = client.jobs.get(job_id)["tags"]
    show({"tags": tags}, as_json=as_json, text=lambda: print(", ".join(tags) or "no tags"))


@app.command()
def note(
    job_id: IdArgument,
    text: Annotated[str | None, typer.Argument(help="A new note; without it, those that are there.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a note on a job, or show its notes, newest first."""
    with connect(url, token) as client:
        if text is not None:
            client.jobs.add_note(job_id, text)
        notes = client.jobs.notes(job_id)

    def write() -> None:
        for one in notes:
            print(f"{one['created_at'][:16]} {one['author']}\n  {one['text']}")

    show({"notes": notes}, as_json=as_json, text=write)


@app.command()
def queue(url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """What waits, in the order in which it starts, and when that will be."""
    with connect(url, token) as client:
        answer = client.jobs.queue()

    def text() -> None:
        most = "no limit" if answer["limit"] is None else f"at most {answer['limit']}"
        print(
            f"{answer['busy']} of {answer['places']} places taken on {answer['machines']} machine(s); "
            f"{answer['running']} of this workspace ({most})"
        )
        columns = {
            "place": lambda row: str(row["position"]),
            "id": lambda row: row["id"],
            "name": lambda row: row["name"],
            "priority": lambda row: row["priority"],
            "starts": _start,
        }
        table(columns, answer["jobs"])

    show(answer, as_json=as_json, text=text)


@app.command()
def priority(
    job_id: IdArgument,
    level: Annotated[str, typer.Argument(metavar="low|normal|high", help="high is for owners and admins.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the job's log and the audit log.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a job start sooner or later than others that wait."""
    with connect(url, token) as client:
        job = client.jobs.set_priority(job_id, level, reason=reason)
    show(job, as_json=as_json, text=lambda: _print(job))


@app.command("show")
def show_(job_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Show one job."""
    with connect(url, token) as client:
        job = client.jobs.get(job_id)
    show(job, as_json=as_json, text=lambda: _print(job))


@app.command()
def cancel(
    job_id: IdArgument,
    reason: Annotated[
        str | None, typer.Option(help="Why: loss_not_decreasing, cost_too_high, wrong_configuration, … or your words.")
    ] = None,
    note: Annotated[str | None, typer.Option()] = None,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint/--now", help="Save a checkpoint first, or stop at the next step.")
    ] = True,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel a job; what it cost is recorded."""
    with connect(url, token) as client:
        job = client.jobs.cancel(job_id, reason=reason, note=note, checkpoint=checkpoint)
    show(job, as_json=as_json, text=lambda: _print(job))


@app.command()
def pause(job_id: IdArgument, url: UrlOption = None, token: TokenOption = None, as_json: JsonOption = False) -> None:
    """Save a checkpoint and give the machine back; `resume` goes on."""
    with connect(url, token) as client:
        job = client.jobs.pause(job_id)
    show(job, as_json=as_json, text=lambda: _print(job))


@app.command()
def resume(
    job_id: IdArgument,
    step: Annotated[int | None, typer.Option(help="A checkpoint's step; without it, the newest.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="What may change on the way, key=value. Repeatable.")
    ] = None,
    max_cost: Annotated[str | None, typer.Option(help="A new limit of the job, in US dollars.")] = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused, failed, cancelled or interrupted job."""
    values = _parsed(settings)
    with connect(url, token) as client:
        job = client.jobs.resume(job_id, checkpoint_step=step, hyperparameters=values or None, max_cost_usd=max_cost)
    show(job, as_json=as_json, text=lambda: _print(job))


@app.command()
def retry(
    job_id: IdArgument,
    fix: Annotated[bool, typer.Option("--fix", help="With the change that `jobs show` suggests.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a failed, cancelled or interrupted job again, from its last checkpoint."""
    with connect(url, token) as client:
        job = client.jobs.retry(job_id, apply_fix=fix)
    show(job, as_json=as_json, text=lambda: _print(job))


def _side(client: "Client", text: str) -> str:
    kind, colon, name = text.partition(":")
    if kind == "template" and colon:
        return f"template:{_template_id(client, name)}"
    return text if colon else f"job:{text}"


def _template_id(client: "Client", wanted: str) -> str:
    """Of the template of this id, or of exactly this name (case aside). Raises InvalidInputError with similar ones."""
    from uuid import UUID

    from brightrun.errors import InvalidInputError

    try:
        return str(UUID(wanted))
    except ValueError:
        found = client.jobs.templates(search=wanted, limit=100)["items"]
    for row in found:
        if row["name"].casefold() == wanted.casefold():
            return str(row["id"])
    near = f" Similar: {', '.join(repr(row['name']) for row in found[:5])}." if found else ""
    raise InvalidInputError(f"there is no template called {wanted!r}.{near} `brightrun jobs templates` lists them all")


def _moment(text: str | None) -> str | None:
    """A day begins at midnight UTC; a time without a zone is UTC."""
    from datetime import UTC, datetime

    from brightrun.errors import InvalidInputError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is no day or time: write 2026-01-31, or 2026-01-31T12:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _parsed(settings: list[str] | None) -> dict[str, Any]:
    from brightrun.errors import InvalidInputError
    from brightrun.formats import hyperparameters

    try:
        return hyperparameters.parse_set(settings or [])
    except hyperparameters.HyperparameterError as error:
        raise InvalidInputError(str(error)) from error


def _say(job: dict[str, Any]) -> None:
    eta = f", about {job['eta_seconds']:.0f} s left" if job.get("eta_seconds") is not None else ""
    print(f"  {job['status']} {job['stage'] or ''} {float(job['progress']):.0f} %{eta}", file=sys.stderr)


def _start(job: dict[str, Any]) -> str:
    start = job["start_estimate"]
    if start["at"] is None:
        return str(start["reason"])
    return f"in about {start['seconds']:.0f} s ({start['source']})"


def _print(job: dict[str, Any]) -> None:
    print(f"{job['name'] or job['id']}: {job['status']}")
    if job.get("position") is not None:
        print(f"  number {job['position']} in the queue ({job['priority']} priority), starts {_start(job)}")
    print(f"  id {job['id']}, {job['preset_id']} on {job['base_model']}, ${float(job['cost_usd']):.4f}")
    if job["error_message"]:
        print(f"  {job['error_message']}")
    if failure := job.get("failure"):
        print(f"  {failure['title']}: {failure['cause']} {failure['advice']}")
        for change in (failure["fix"] or {}).get("changes", []):
            print(
                f"  suggested: {change['field']} {change['before']} → {change['after']} (`brightrun jobs retry --fix`)"
            )
    if job.get("model_id"):
        print(f"  model {job['model_id']}: `brightrun models download {job['model_id']}`")
