"""Bring a database to this version's schema: roles first, then Alembic, under one lock."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from brightrun.db.roles import DatabaseUrls, ensure_roles, libpq
from brightrun.errors import UnavailableError

_LOCK = 7_205_118_331  # any constant: two processes must not migrate one database at once


def alembic_config(urls: DatabaseUrls) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["urls"] = urls
    config.attributes["roles"] = (urls.owner.username, urls.app_role, urls.worker_role)
    return config


def migrate(urls: DatabaseUrls, revision: str = "head") -> None:
    """Create the roles and upgrade to `revision`. Safe to call from several processes at once, and again."""
    try:
        lock = psycopg.connect(libpq(urls.owner), autocommit=True, connect_timeout=30)
    except psycopg.OperationalError as error:
        where = urls.owner.render_as_string(hide_password=True)
        raise UnavailableError(f"cannot connect to the database {where}: {error}") from error
    with lock:
        lock.execute("select pg_advisory_lock(%s)", [_LOCK])
        ensure_roles(lock, urls)
        command.upgrade(alembic_config(urls), revision)


def current_revision(urls: DatabaseUrls) -> str | None:
    """The revision the database is at; None for an empty one."""
    engine = create_engine(urls.owner)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def head_revision() -> str:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head
