"""`brightrun providers …`: keys and terms of the models that write, of the first workspace or another."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from brightrun.cli.remote import JsonOption, show, table
from brightrun.cli.runtime import DataOption, installation, open_platform, settings_with, start_logging
from brightrun.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from brightrun.platform import Platform

app = typer.Typer(no_args_is_help=True, help="Keys and terms of the models that write; what they cost.")

NameArgument = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="anthropic, or openai for any compatible server.")
]
WorkspaceOption = Annotated[
    str | None, typer.Option("--workspace", help="Its id, or its name if no other has it. Default: the first one.")
]


def _with_session(
    data: Any, workspace: str | None, work: "Callable[[AsyncSession, Platform, str], Awaitable[Any]]"
) -> Any:
    """`work` as the workspace's owner, on the installation's own database: no server has to run."""
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "providers")

    async def run(urls: Any) -> Any:
        from brightrun.accounts import repository
        from brightrun.accounts.service import bootstrap_first_owner
        from brightrun.accounts.tables import User
        from brightrun.db.session import Database, assume

        found: UUID | None = None
        if workspace is not None:
            owner = Database(urls.owner.render_as_string(hide_password=False), pool_size=1)
            try:
                async with owner.transaction() as session:
                    known = [row for row, _ in await repository.all_workspaces(session)]
            finally:
                await owner.dispose()
            named = [row.id for row in known if workspace in {str(row.id), row.name}]
            if len(named) != 1:
                raise NotFoundError(
                    f"{len(named) or 'no'} workspaces are called {workspace!r}; `brightrun workspaces list` shows them"
                )
            found = named[0]
        url = urls.app.render_as_string(hide_password=False)
        async with (
            open_platform(settings, url, pool_size=1, name="providers") as platform,
            platform.db.transaction() as session,
        ):
            user_id, first = await bootstrap_first_owner(session)
            user = await session.get(User, user_id)
            email = user.email if user is not None else "owner"
            if found is not None and found != first:
                email = "an operator, on the command line"
                await assume(session, workspace_id=found)
            return await work(session, platform, email)

    with installation(settings) as installed:
        return asyncio.run(run(installed.urls))


def _provider(name: str) -> Any:
    from brightrun.llm.calls import Provider

    try:
        return Provider(name.lower())
    except ValueError:
        raise InvalidInputError(f"{name!r} is no provider; there are anthropic and openai") from None


def _row(state: Any) -> dict[str, Any]:
    return {
        "provider": state.provider.value,
        "label": state.label,
        "key_source": state.source,
        "last_four": state.last_four,
        "base_url": state.base_url,
        "ready": state.ready,
        "problem": state.problem,
        "terms_accepted_by": state.accepted.accepted_email if state.accepted else None,
    }


@app.command("list")
def list_(data: DataOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Which providers are set up, with whose key, and whether their terms are accepted."""

    async def work(session: Any, platform: Any, _email: str) -> list[dict[str, Any]]:
        from brightrun.generation import providers

        return [_row(state) for state in await providers.states(session, platform)]

    rows = _with_session(data, workspace, work)
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "provider": lambda row: row["provider"],
        "key": lambda row: f"…{row['last_four']} ({row['key_source']})" if row["last_four"] else row["key_source"],
        "address": lambda row: row["base_url"] or "",
        "terms": lambda row: f"accepted by {row['terms_accepted_by']}" if row["terms_accepted_by"] else "not accepted",
        "": lambda row: "ready" if row["ready"] else "",
    }
    show({"items": rows, "total": len(rows)}, as_json=as_json, text=lambda: table(columns, rows))


@app.command("set-key")
def set_key(
    provider: NameArgument,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Address of an OpenAI-compatible server, with its /v1.")
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The server wants none.")] = False,
    data: DataOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a key, encrypted. It is asked for, or read from standard input; never given on the command line, where
    other programs could read it."""
    named = _provider(provider)
    key = None
    if not no_key:
        if sys.stdin.isatty():
            key = typer.prompt("Key (not shown)", hide_input=True, err=True)
        else:
            key = sys.stdin.readline().strip()
        if not key:
            raise InvalidInputError("no key was given; a server without one is set with --no-key")

    async def work(session: Any, platform: Any, _email: str) -> dict[str, Any]:
        from brightrun.generation import providers

        return _row(await providers.set_key(session, platform, named, key=key, base_url=base_url))

    row = _with_session(data, workspace, work)
    words = f"ending with …{row['last_four']}" if row["last_four"] else "without a key"
    show(row, as_json=as_json, text=lambda: print(f"{row['label']} is set up, {words}"))


@app.command("remove-key")
def remove_key(
    provider: NameArgument, data: DataOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Delete the workspace's own key."""
    named = _provider(provider)

    async def work(session: Any, platform: Any, _email: str) -> dict[str, Any]:
        from brightrun.generation import providers

        return _row(await providers.remove_key(session, platform, named))

    row = _with_session(data, workspace, work)
    show(row, as_json=as_json, text=lambda: print(f"The key for {row['label']} is deleted"))


@app.command("accept-terms")
def accept_terms(
    provider: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Accept without being asked.")] = False,
    data: DataOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the provider's terms mean for training on its answers, and accept them for the workspace."""
    from brightrun.llm.terms import NOTICES, told

    named = _provider(provider)
    notice = NOTICES[named]
    for line in [notice.title, "", *notice.text, "", *(f"{label}: {url}" for label, url in notice.links), ""]:
        typer.echo(line, err=True)
    if not yes and not typer.confirm("Read, and our use is allowed?", err=True):
        typer.echo("Nothing was accepted.", err=True)
        raise typer.Exit(1)

    async def work(session: Any, platform: Any, email: str) -> dict[str, Any]:
        from brightrun.generation import providers

        return _row(await providers.accept_terms(session, platform, named, email=email)) | {"terms": told(notice)}

    row = _with_session(data, workspace, work)
    show(row, as_json=as_json, text=lambda: print(f"Accepted; on record: {row['terms_accepted_by']}"))


@app.command()
def check(
    provider: NameArgument, data: DataOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Ask the provider for its models: says whether address and key work. Costs nothing; exits 1 when they do not."""
    named = _provider(provider)

    async def work(session: Any, platform: Any, _email: str) -> Any:
        from brightrun.generation import providers

        return await providers.check(session, platform, named)

    found = _with_session(data, workspace, work)
    result = {"works": found.works, "models": [facts.id for facts in found.models], "problem": found.problem}
    show(result, as_json=as_json, text=lambda: print(", ".join(result["models"]) if found.works else found.problem))
    if not found.works:
        raise typer.Exit(1)


@app.command()
def models(as_json: JsonOption = False) -> None:
    """Models and what they cost, as this installation's price file says: USD for a million tokens."""
    from brightrun.generation.providers import known_models
    from brightrun.llm.prices import catalogue

    rows = known_models()
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "model": lambda row: row["id"] + (" (default)" if row["default"] else ""),
        "in": lambda row: row["input_usd"] or "unknown",
        "out": lambda row: row["output_usd"] or "unknown",
        "longer prompts": lambda row: "dearer" if row["bands"] > 1 else "",
        "ends": lambda row: row["retires"] or "",
    }
    found = {"as_of": catalogue().as_of, "items": rows, "total": len(rows)}
    show(found, as_json=as_json, text=lambda: table(columns, rows))
    if not as_json:
        print(f"USD for a million tokens, as of {found['as_of']}")
