"""The three roles: the owner migrates, the application serves, the worker works. Only the owner owns tables.

The owner is whoever `DATABASE_URL` names. `<prefix>_app` and `<prefix>_worker` are made here, with passwords derived
from the secret key, so that a server on another machine with the same key can connect without a second secret.
"""

import hashlib
import hmac
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from brightrun.errors import ConfigurationError
from brightrun.settings import Settings


@dataclass(frozen=True)
class DatabaseUrls:
    """SQLAlchemy URLs of one database, by role."""

    owner: URL
    app: URL
    worker: URL

    @property
    def app_role(self) -> str:
        return self.app.username or ""

    @property
    def worker_role(self) -> str:
        return self.worker.username or ""


def as_sqlalchemy(url: str) -> URL:
    """A `postgres://`, `postgresql://` or `postgresql+driver://` URL with our driver."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Without its text: it may hold a password.
        raise ConfigurationError("DATABASE_URL is no URL: postgresql://user:password@host:5432/database") from None
    if not parsed.drivername.startswith(("postgres", "postgresql")):
        raise ConfigurationError(
            f"DATABASE_URL names {parsed.drivername!r}; BrightRun runs on PostgreSQL only (postgresql://…)"
        )
    return parsed.set(drivername="postgresql+psycopg")


def libpq(url: URL) -> str:
    """The same URL for psycopg and libpq."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def role_password(secret: bytes, role: str) -> str:
    return hmac.new(secret, b"database role " + role.encode(), hashlib.sha256).hexdigest()


def derive_urls(settings: Settings, secret: bytes, owner_url: str) -> DatabaseUrls:
    """The URLs of all three roles, from the owner's."""
    owner = as_sqlalchemy(owner_url)
    prefix = settings.database_role_prefix or owner.database or "brightrun"

    def derived(explicit: str | None, name: str) -> URL:
        if explicit is not None:
            return as_sqlalchemy(explicit)
        role = f"{prefix}_{name}"
        return owner.set(username=role, password=role_password(secret, role))

    app = settings.app_database_url.get_secret_value() if settings.app_database_url else None
    worker = settings.worker_database_url.get_secret_value() if settings.worker_database_url else None
    return DatabaseUrls(owner=owner, app=derived(app, "app"), worker=derived(worker, "worker"))


def ensure_roles(connection: psycopg.Connection[tuple[object, ...]], urls: DatabaseUrls) -> None:
    """Create the application and worker roles, or reset their attributes and passwords. Safe to repeat.

    Raises ConfigurationError when the owner may not create roles and they do not exist.
    """
    for url in (urls.app, urls.worker):
        role, password = url.username, url.password
        assert role is not None
        if role == urls.owner.username:
            raise ConfigurationError(
                f"the role {role!r} owns the tables; the application must connect as another (row-level security)"
            )
        row = connection.execute("select rolsuper or rolbypassrls from pg_roles where rolname = %s", [role]).fetchone()
        if row is not None and row[0]:
            raise ConfigurationError(f"the role {role!r} may bypass row-level security; take that right from it first")
        try:
            with connection.transaction():
                # Two processes may create the role at the same moment; the lock lasts as long as this transaction.
                connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"brightrun role {role}"])
                exists = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
                verb = sql.SQL("alter") if exists else sql.SQL("create")
                connection.execute(
                    sql.SQL("{verb} role {role} login inherit password {password}").format(
                        verb=verb, role=sql.Identifier(role), password=sql.Literal(str(password))
                    )
                )
        except psycopg.errors.InsufficientPrivilege as error:
            if row is not None:
                continue  # An administrator made the role; its password is the one in its URL setting.
            raise ConfigurationError(
                f"{urls.owner.username!r} may not create the role {role!r}: give it CREATEROLE, or create the role "
                "yourself and set BRIGHTRUN_APP_DATABASE_URL and BRIGHTRUN_WORKER_DATABASE_URL"
            ) from error
