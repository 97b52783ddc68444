"""What commands stand on: settings from options, the database of this installation, a Platform for one role."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import URL

from brightrun.db.migrate import migrate
from brightrun.db.roles import DatabaseUrls, derive_urls, role_password
from brightrun.db.session import Database
from brightrun.errors import ConfigurationError
from brightrun.logs import configure_logging
from brightrun.platform import Platform, load_secret, secret_path
from brightrun.settings import Settings, get_settings
from brightrun.storage import open_store
from brightrun.validation.thresholds import parse_thresholds

if TYPE_CHECKING:
    from brightrun.db.embedded import EmbeddedPostgres

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data directory. Default: BRIGHTRUN_DATA, else one under your home.")
]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")]

DATABASE = "brightrun"


def settings_with(data: Path | None = None, **changes: object) -> Settings:
    """The environment's settings with the options of this command line on top."""
    settings = get_settings()
    if data is not None:
        changes["data"] = data
    return settings.model_copy(update={**changes, "data": Path(changes.get("data", settings.data)).absolute()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Installation:
    """The database that an installation stands on. embedded: None with a DATABASE_URL."""

    urls: DatabaseUrls
    embedded: "EmbeddedPostgres | None"


@contextmanager
def installation(
    settings: Settings, *, say: Callable[[str], None] | None = None, migrated: bool = True
) -> Iterator[Installation]:
    """The database of this installation, running and migrated, for as long as the block lasts.

    With DATABASE_URL that server; otherwise the embedded one, started or joined, and left at the end.
    migrated: False leaves the schema alone (for a restore).
    """
    secret = load_secret(settings)
    if settings.database_url is not None:
        urls = derive_urls(settings, secret, settings.database_url.get_secret_value())
        if migrated:
            migrate(urls)
        yield Installation(urls, None)
        return
    from brightrun.db.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data, version=settings.embedded_postgres_version, log=say)
    server.start()
    try:
        owner = f"{DATABASE}_owner"
        password = role_password(secret, owner)
        _ensure_database(server.conninfo(), owner, password)
        url = URL.create("postgresql", owner, password, server.host, server.port, DATABASE)
        urls = derive_urls(settings, secret, url.render_as_string(hide_password=False))
        if migrated:
            migrate(urls)
        yield Installation(urls, server)
    finally:
        server.stop()


def _ensure_database(conninfo: str, owner: str, password: str) -> None:
    """The owner role (no superuser) and its database, in the embedded server."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(7205118333)")
        exists = connection.execute("select 1 from pg_roles where rolname = %s", [owner]).fetchone()
        connection.execute(
            sql.SQL("{} role {} login createrole nosuperuser password {}").format(
                sql.SQL("alter" if exists else "create"), sql.Identifier(owner), sql.Literal(password)
            )
        )
        if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
            connection.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(DATABASE), sql.Identifier(owner))
            )


def role_url(settings: Settings, role: str) -> str:
    """URL of the application's or the worker's role, for a process that does not migrate.

    Raises ConfigurationError when neither its own URL nor DATABASE_URL is set, or no secret key that others share.
    """
    if settings.secret_key is None and not secret_path(settings).exists():
        # A new one would fit neither the roles' passwords nor the URLs that the other processes sign.
        raise ConfigurationError(
            "Set BRIGHTRUN_SECRET_KEY to the same value for `brightrun migrate` and every server and worker; or let "
            f"`brightrun migrate` make one in the data directory they share ({settings.data} has none)"
        )
    own = settings.app_database_url if role == "app" else settings.worker_database_url
    if own is not None:
        from brightrun.db.roles import as_sqlalchemy

        return as_sqlalchemy(own.get_secret_value()).render_as_string(hide_password=False)
    if settings.database_url is None:
        raise ConfigurationError(
            "Set DATABASE_URL (or BRIGHTRUN_APP_DATABASE_URL and BRIGHTRUN_WORKER_DATABASE_URL) to run this process by "
            "itself; `brightrun up` brings its own database"
        )
    urls = derive_urls(settings, load_secret(settings), settings.database_url.get_secret_value())
    return (urls.app if role == "app" else urls.worker).render_as_string(hide_password=False)


@asynccontextmanager
async def open_platform(settings: Settings, url: str, *, pool_size: int, name: str) -> AsyncIterator[Platform]:
    """A Platform on one role's connection pool, closed at the end."""
    secret = load_secret(settings)
    try:
        parse_thresholds(settings.validation_thresholds)
    except ValueError as error:
        raise ConfigurationError(f"these settings do not fit: BRIGHTRUN_VALIDATION_THRESHOLDS: {error}") from None
    public_url = (settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    database = Database(url, pool_size=pool_size, application_name=f"brightrun {name}")
    store = await asyncio.to_thread(open_store, settings, public_url=public_url, secret=secret)
    try:
        yield Platform(settings=settings, secret=secret, db=database, store=store, public_url=public_url)
    finally:
        await database.dispose()


def database_or_none(settings: Settings) -> str | None:
    """Why there is no database to look at yet; None when there is one. Looking makes nothing."""
    if settings.database_url is None and not secret_path(settings).exists():
        return f"nothing was started in {settings.data} yet"
    return None


def start_logging(settings: Settings, process: str) -> None:
    configure_logging(settings.log_level, settings.log_format, process=process)
