"""An installation of any earlier version comes to this one with every row it had.

Each revision is applied to a database in which every table of the revisions before it has a row. The rows are made from
the catalogue, so a new revision is covered without a line here; a table whose checks are particular gets one in VALUES.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql

from brightrun.db.migrate import alembic_config, current_revision, head_revision, migrate
from brightrun.db.roles import DatabaseUrls, as_sqlalchemy, derive_urls, libpq
from brightrun.ids import uuid7
from installation import TEST_SECRET, make_settings

Connection = psycopg.Connection[tuple[Any, ...]]

VALUES: dict[tuple[str, str], Any] = {
    ("cost_records", "billing_period"): "2026-01-01",
    ("model_artifacts", "files"): "[{}]",
    ("webhooks", "types"): "{system}",
}
"""(table, column) → a value that its checks take."""
REFERENCES = {("notification_deliveries", "user_id"): "users"}
"""(table, column) → the table whose row it names, where a check wants what may be null elsewhere."""

COLUMNS = """
select a.attname, format_type(a.atttypid, null), f.relname, fa.attname,
  (select pg_get_constraintdef(c.oid) from pg_constraint c
    where c.contype = 'c' and c.conrelid = a.attrelid and c.conkey = array[a.attnum] limit 1)
from pg_attribute a
left join pg_constraint k on k.contype = 'f' and k.conrelid = a.attrelid and k.conkey = array[a.attnum]
left join pg_class f on f.oid = k.confrelid
left join pg_attribute fa on fa.attrelid = k.confrelid and fa.attnum = k.confkey[1]
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attnotnull and not a.atthasdef
  and a.attidentity = ''
order by a.attnum
"""
SAMPLES: dict[str, Any] = {
    "uuid": None,
    "text": "text",
    "integer": 1,
    "bigint": 1,
    "smallint": 1,
    "numeric": 1,
    "double precision": 1.0,
    "real": 1.0,
    "boolean": True,
    "jsonb": "{}",
    "bytea": b"bytes",
    "date": "2026-01-01",
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    "text[]": [],
}


def tables(connection: Connection) -> list[str]:
    rows = connection.execute(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by oid"
    )
    return [name for (name,) in rows if not name.startswith("procrastinate_") and name != "alembic_version"]


def fill(connection: Connection, table: str) -> None:
    """One row. Tables are filled in the order in which they were made, so what a key points at is there."""
    row: dict[str, Any] = {}
    for column, kind, foreign, foreign_column, check in connection.execute(COLUMNS, [table]).fetchall():
        if (table, column) in VALUES:
            row[column] = VALUES[table, column]
        elif foreign is not None:
            found = connection.execute(
                sql.SQL("select {} from {} limit 1").format(sql.Identifier(foreign_column), sql.Identifier(foreign))
            ).fetchone()
            assert found is not None, f"{table}.{column} points at {foreign}, which has no row"
            row[column] = found[0]
        elif kind == "uuid":
            row[column] = uuid7()
        elif check is not None and "ARRAY['" in check:
            row[column] = check.split("ARRAY['")[1].split("'")[0]  # An enumeration's first value.
        else:
            row[column] = SAMPLES[kind]
    for (_table, column), foreign in ((key, found) for key, found in REFERENCES.items() if key[0] == table):
        key = connection.execute(sql.SQL("select id from {} limit 1").format(sql.Identifier(foreign))).fetchone()
        assert key is not None
        row[column] = key[0]
    connection.execute(
        sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(sql.Placeholder() * len(row)),
        ),
        list(row.values()),
    )


@pytest.fixture
def empty(postgres_admin: str) -> Iterator[DatabaseUrls]:
    name = f"stepwise_{secrets.token_hex(5)}"
    with psycopg.connect(libpq(as_sqlalchemy(postgres_admin)), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login createrole password 'pw'").format(sql.Identifier(name)))
        admin.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(name)))
        url = as_sqlalchemy(postgres_admin).set(username=name, password="pw", database=name)
        settings = make_settings().model_copy(update={"database_role_prefix": name})
        urls = derive_urls(settings, TEST_SECRET, url.render_as_string(hide_password=False))
        yield urls
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        for role in (urls.app_role, urls.worker_role, name):
            admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


def test_every_revision_brings_along_the_rows_of_those_before_it(empty: DatabaseUrls):
    script = ScriptDirectory.from_config(alembic_config(empty))
    assert len(script.get_heads()) == 1, "two revisions follow the same one"
    revisions = [found.revision for found in reversed(list(script.walk_revisions()))]
    filled: list[str] = []
    for revision in revisions:
        migrate(empty, revision)
        with psycopg.connect(libpq(empty.owner), autocommit=True) as connection:
            for table in filled:
                found = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
                assert found == (1,), f"revision {revision} lost the row of {table}"
            for table in tables(connection):
                if table not in filled:
                    fill(connection, table)
                    filled.append(table)
    assert {"users", "datasets", "training_jobs"} <= set(filled)
    assert current_revision(empty) == head_revision()
    migrate(empty)  # And again, as every start does.


def test_two_processes_may_migrate_one_database_at_once(empty: DatabaseUrls):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(migrate, empty) for _ in range(3)]:
            done.result(120)
    assert current_revision(empty) == head_revision()
