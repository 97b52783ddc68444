"""`brightrun workspaces …`: what only whoever runs the installation decides about workspaces."""

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import typer

from brightrun.cli.remote import JsonOption, show, table
from brightrun.cli.runtime import DataOption, Installation, installation, open_platform, settings_with, start_logging
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Workspaces of this installation: how much each may store, and train at once."
)

_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_LARGEST = 2**63 - 1


def parse_size(text: str) -> int | None:
    """`20GB`, `500MiB`, `1048576` → bytes; `none` → 0, no limit; `default` → None. InvalidInputError for others."""
    word = text.strip().lower()
    if word in {"none", "default"}:
        return 0 if word == "none" else None
    found = _SIZE.fullmatch(word)
    if found is None or (found[3] and not found[2]):
        raise InvalidInputError(f"{text!r} is no size: write 20GB, 500MiB, a number of bytes, `none` or `default`")
    unit = 1024 ** "kmgt".find(found[2]) * 1024 if found[3] else _UNITS[found[2]]
    size = round(float(found[1]) * unit)
    if not 1 <= size <= _LARGEST:
        raise InvalidInputError(f"A quota is 1 to {_LARGEST:,} bytes; `none` is no limit")
    return size


@app.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Every workspace, what it stores and what it may."""
    settings = _settings(data)
    with installation(settings) as installed:
        found = asyncio.run(_list(settings, installed))
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "id": lambda row: row["id"],
        "name": lambda row: row["name"],
        "owners": lambda row: ", ".join(row["owners"]),
        "used": lambda row: f"{row['used_bytes']:,}",
        "quota": _quota_words,
        "jobs at once": lambda row: "no limit" if row["max_running_jobs"] is None else str(row["max_running_jobs"]),
    }
    show({"items": found, "total": len(found)}, as_json=as_json, text=lambda: table(columns, found))


@app.command()
def quota(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Its id, or its name if no other has it.")],
    size: Annotated[
        str | None,
        typer.Argument(metavar="[SIZE]", help="20GB, 500MiB, bytes; `none`: no limit; `default`: as all others."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how much a workspace may store, or set it."""
    given = size is not None
    wanted = parse_size(size) if size is not None else None
    settings = _settings(data)
    with installation(settings) as installed:
        row = asyncio.run(_change(settings, installed, workspace, "storage_quota_bytes", wanted, change=given))
    show(
        row,
        as_json=as_json,
        text=lambda: print(f"{row['name']}: {row['used_bytes']:,} bytes stored of {_quota_words(row)}"),
    )


@app.command()
def running(
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Its id, or its name if no other has it.")],
    jobs: Annotated[
        str | None, typer.Argument(metavar="[JOBS]", help="A number; `none`: no limit; `default`: as all others.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many training jobs a workspace may have at work at once, or set it. What is above it waits."""
    wanted = parse_jobs(jobs) if jobs is not None else None
    settings = _settings(data)
    with installation(settings) as installed:
        row = asyncio.run(_change(settings, installed, workspace, "max_running_jobs", wanted, change=jobs is not None))
    most = "any number of jobs" if row["max_running_jobs"] is None else f"{row['max_running_jobs']} job(s)"
    own = "" if row["own_max_running_jobs"] else " (default)"
    show(row, as_json=as_json, text=lambda: print(f"{row['name']}: {most} at once{own}"))


def parse_jobs(text: str) -> int | None:
    """`4` → 4; `none` → 0, no limit; `default` → None. InvalidInputError for others."""
    word = text.strip().lower()
    if word in {"none", "default"}:
        return 0 if word == "none" else None
    if not re.fullmatch(r"[0-9]{1,4}", word) or not int(word):
        raise InvalidInputError(f"{text!r} is no number of jobs: write 1 to 9999, `none` or `default`")
    return int(word)


def _settings(data: Any) -> Settings:
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "workspaces")
    return settings


def _quota_words(row: dict[str, Any]) -> str:
    allowed = f"{row['quota_bytes']:,} bytes" if row["quota_bytes"] is not None else "no limit"
    return allowed if row["own_quota"] else f"{allowed} (default)"


async def _list(settings: Settings, installed: Installation) -> list[dict[str, Any]]:
    from brightrun.accounts import repository
    from brightrun.db.session import Database

    owner = Database(installed.urls.owner.render_as_string(hide_password=False), pool_size=1)
    try:
        async with owner.transaction() as session:
            found = [(row.id, row.name, owners) for row, owners in await repository.all_workspaces(session)]
    finally:
        await owner.dispose()
    return [await _row(settings, installed, *one) for one in found]


async def _change(
    settings: Settings, installed: Installation, named: str, column: str, value: int | None, *, change: bool
) -> dict[str, Any]:
    """As the owner role: the application may not change what a workspace may store, or have at work at once."""
    from brightrun.accounts import repository
    from brightrun.audit.service import record
    from brightrun.db.session import Database, assume

    owner = Database(installed.urls.owner.render_as_string(hide_password=False), pool_size=1)
    try:
        async with owner.transaction() as session:
            everything = await repository.all_workspaces(session)
            found = [one for one in everything if named in {str(one[0].id), one[0].name}]
            if not found:
                raise NotFoundError(f"there is no workspace {named!r}; `brightrun workspaces list` shows them")
            if len(found) > 1:
                raise ConflictError(f"{len(found)} workspaces are called {named!r}: give the id of one")
            workspace, owners = found[0]
            if change:
                before = getattr(workspace, column)
                setattr(workspace, column, value)
                action, words = _NOTED[column]
                await assume(session, workspace_id=workspace.id)
                await record(
                    session,
                    action,
                    "workspace",
                    workspace.id,
                    {"before": words(before), "after": words(value), "by": "an operator, on the command line"},
                )
    finally:
        await owner.dispose()
    return await _row(settings, installed, workspace.id, workspace.name, owners)


def _stored(quota: int | None) -> str:
    return "default" if quota is None else f"{quota} bytes" if quota else "no limit"


def _at_once(jobs: int | None) -> str:
    return "default" if jobs is None else f"{jobs} jobs" if jobs else "no limit"


_NOTED: dict[str, tuple[str, Callable[[int | None], str]]] = {
    "storage_quota_bytes": ("workspace.quota_set", _stored),
    "max_running_jobs": ("workspace.running_jobs_set", _at_once),
}


async def _row(
    settings: Settings, installed: Installation, workspace_id: UUID, name: str, owners: list[str]
) -> dict[str, Any]:
    """Usage as the application sees it: row-level security counts this workspace alone."""
    from brightrun.accounts.quota import running_jobs, storage_of
    from brightrun.models import service as _models  # noqa: F401 (rooms say what they store when they are imported)

    app_url = installed.urls.app.render_as_string(hide_password=False)
    async with (
        open_platform(settings, app_url, pool_size=1, name="workspaces") as platform,
        platform.db.transaction(workspace_id=workspace_id) as session,
    ):
        storage = await storage_of(session, settings, workspace_id)
        most, own = await running_jobs(session, settings, workspace_id)
    limits = {"max_running_jobs": most, "own_max_running_jobs": own}
    return {"id": str(workspace_id), "name": name, "owners": owners, **storage.model_dump(), **limits}
