"""Shared parts: one PostgreSQL for the whole run, a private migrated database for each test process, a real server.

The PostgreSQL is the embedded one, joined by every xdist process, so the tests also exercise joining and leaving.
`BRIGHTRUN_TEST_DATABASE_URL` (a role that may create databases and roles) runs them against another server.
"""

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import sql
from sqlalchemy import URL, make_url

from brightrun.db.embedded import EmbeddedPostgres
from brightrun.db.migrate import migrate
from brightrun.db.roles import DatabaseUrls, as_sqlalchemy, derive_urls, libpq
from brightrun.db.session import Database
from installation import TEST_SECRET, make_settings
from live import Live, Member, live_server

OWNER = "brtest_owner"
OWNER_PASSWORD = "owner"


def pytest_configure() -> None:
    # Nothing a developer has set may change what the tests see.
    for name in list(os.environ):
        ours = name.startswith("BRIGHTRUN_") and not name.startswith("BRIGHTRUN_TEST_")
        if ours or name in ("DATABASE_URL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL"):
            del os.environ[name]
    os.environ["HF_HUB_OFFLINE"] = "1"
    # structlog's own default takes seconds for a traceback, in which the server under test answers nobody.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all xdist processes of this run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def postgres_admin(shared_directory: Path) -> Iterator[str]:
    """URL of a role that may create databases and roles."""
    given = os.environ.get("BRIGHTRUN_TEST_DATABASE_URL")
    if given is not None:
        yield given
        return
    # Not under pytest's own directory, which is private: as root, PostgreSQL runs as another account.
    run = hashlib.sha256(str(shared_directory).encode()).hexdigest()[:12]
    data = Path(tempfile.gettempdir()) / f"brightrun-tests-{run}"
    data.mkdir(mode=0o755, exist_ok=True)
    server = EmbeddedPostgres(data)
    server.start()
    try:
        url = URL.create("postgresql", server.superuser, server.password, server.host, server.port, "postgres")
        yield url.render_as_string(hide_password=False)
    finally:
        server.stop()
        if not server.is_running():
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _admin(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(libpq(as_sqlalchemy(url)), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template_database(postgres_admin: str) -> str:
    """Name of a migrated database that the others are cloned from. Made by whichever process is first."""
    name = "brightrun_template"
    with _admin(postgres_admin) as connection:
        connection.execute("select pg_advisory_lock(1)")
        if not connection.execute("select 1 from pg_roles where rolname = %s", [OWNER]).fetchone():
            connection.execute(
                sql.SQL("create role {} login createrole password {}").format(
                    sql.Identifier(OWNER), sql.Literal(OWNER_PASSWORD)
                )
            )
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            making = name + "_making"
            connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(making)))
            connection.execute(
                sql.SQL("create database {} owner {}").format(sql.Identifier(making), sql.Identifier(OWNER))
            )
            migrate(_urls(postgres_admin, making))
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(sql.Identifier(making), sql.Identifier(name))
            )
    return name


def _urls(admin: str, database: str) -> DatabaseUrls:
    owner = make_url(admin).set(username=OWNER, password=OWNER_PASSWORD, database=database)
    return derive_urls(make_settings(), TEST_SECRET, owner.render_as_string(hide_password=False))


@contextmanager
def cloned_database(admin: str, template: str) -> Iterator[DatabaseUrls]:
    name = f"brightrun_{secrets.token_hex(6)}"
    with _admin(admin) as connection:
        connection.execute("select pg_advisory_lock(2)")  # Two clones of one template at once are refused.
        connection.execute(
            sql.SQL("create database {} template {} owner {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER)
            )
        )
    try:
        yield _urls(admin, name)
    finally:
        with _admin(admin) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def new_database(postgres_admin: str, template_database: str) -> Callable[[], AbstractContextManager[DatabaseUrls]]:
    """Makes a migrated, empty database, for a room that wants one to itself for longer than a test."""
    return lambda: cloned_database(postgres_admin, template_database)


@pytest.fixture(scope="session")
def pg_urls(postgres_admin: str, template_database: str) -> Iterator[DatabaseUrls]:
    """A migrated database private to this test process. Tests keep apart by using workspaces of their own."""
    with cloned_database(postgres_admin, template_database) as urls:
        yield urls


@pytest.fixture
def fresh_pg_urls(postgres_admin: str, template_database: str) -> Iterator[DatabaseUrls]:
    """A migrated, empty database for one test."""
    with cloned_database(postgres_admin, template_database) as urls:
        yield urls


@pytest.fixture
async def app_db(pg_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """As the application connects: row-level security applies."""
    database = Database(pg_urls.app.render_as_string(hide_password=False), pool_size=2)
    yield database
    await database.dispose()


@pytest.fixture
async def worker_db(pg_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """As the worker connects."""
    database = Database(pg_urls.worker.render_as_string(hide_password=False), pool_size=2)
    yield database
    await database.dispose()


@pytest.fixture(scope="session")
def live(pg_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A whole BrightRun over real HTTP, shared by this process's tests: each makes its own workspace in it."""
    settings = make_settings(
        data=tmp_path_factory.mktemp("live"), login_attempts=100_000, min_free_disk_bytes=0, worker_heartbeat_s=1
    )
    with live_server(pg_urls, settings, TEST_SECRET) as running:
        yield running


@pytest.fixture
def owner(live: Live) -> Member:
    """The owner of a new workspace."""
    return live.new_workspace()
