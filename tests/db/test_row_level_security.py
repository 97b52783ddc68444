"""Tenancy holds in the database itself, whatever a query forgets. Read from the catalogue: new tables are covered."""

from uuid import UUID

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, text
from sqlalchemy.exc import ProgrammingError

from brightrun.db.base import Base
from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.rooms import import_tables
from live import Live, Member

pytestmark = pytest.mark.anyio

LOOKUPS = {
    # Everything that may look past row-level security, and what it answers: ids only.
    "lookup_session",
    "lookup_api_token",
    "lookup_user_by_email",
    "lookup_user_by_oidc_subject",
    "lookup_signin_link",
    "lookup_invitation",
    "lookup_first_owner",
    "lookup_expired_events",
    "lookup_expired_notifications",
    "lookup_stuck_datasets",
    "lookup_unconfirmed_datasets",
    "lookup_purgeable_datasets",
    "lookup_purgeable_models",
    "lookup_host_jobs",
    "lookup_startable_jobs",
    "lookup_queue",
    "lookup_overdue_stops",
    "lookup_purgeable_runs",
    "lookup_unrecorded_requests",
    "lookup_idle_batches",
}
NOT_OWNED = {"alembic_version", "rate_limits", "training_machines", "training_backlog"}
"""Tables that belong to nobody."""


@pytest.fixture
def owner_connection(pg_urls: DatabaseUrls):
    with psycopg.connect(libpq(pg_urls.owner), autocommit=True) as connection:
        yield connection


def owned_tables(connection) -> list[str]:
    rows = connection.execute(
        "select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
    )
    return sorted(name for (name,) in rows if not name.startswith("procrastinate_") and name not in NOT_OWNED)


def test_every_owned_table_forces_row_level_security_and_has_policies(owner_connection):
    tables = owned_tables(owner_connection)
    assert {"users", "workspaces", "api_tokens", "events", "notifications", "cost_records"} <= set(tables)
    for table in tables:
        enabled, forced = owner_connection.execute(
            "select relrowsecurity, relforcerowsecurity from pg_class where oid = %s::regclass", [table]
        ).fetchone()
        assert enabled, f"{table}: row-level security is off"
        assert forced, f"{table}: row-level security does not bind the owner"
        policies = owner_connection.execute(
            "select policyname, roles, qual from pg_policies where tablename = %s", [table]
        ).fetchall()
        assert len(policies) >= 2, f"{table}: needs a policy for the owner and one for the others"
        for name, roles, qual in policies:
            assert "public" not in roles, f"{table}.{name} is for everybody"
            if qual == "true":
                assert roles == ["brtest_owner"], f"{table}.{name} lets {roles} see everything"


def test_every_table_with_a_workspace_column_has_an_index_that_begins_with_it(owner_connection):
    rows = owner_connection.execute(
        """
        select c.relname from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
        where a.attname = 'workspace_id' and c.relnamespace = 'public'::regnamespace and not exists (
          select 1 from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum)
        """
    )
    assert [name for (name,) in rows] == []


def test_the_application_and_the_worker_own_nothing_and_bypass_nothing(owner_connection, pg_urls: DatabaseUrls):
    for role in (pg_urls.app_role, pg_urls.worker_role):
        row = owner_connection.execute(
            "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = %s", [role]
        ).fetchone()
        assert row == (False, False, False, False)
        owned = owner_connection.execute(
            "select count(*) from pg_class where relowner = %s::regrole", [role]
        ).fetchone()
        assert owned == (0,)


def test_only_the_listed_functions_look_past_row_level_security(owner_connection):
    rows = owner_connection.execute(
        """
        select p.proname, p.proconfig, pg_get_function_result(p.oid), has_function_privilege('public', p.oid, 'execute')
        from pg_proc p where p.prosecdef and p.pronamespace = 'public'::regnamespace
        """
    ).fetchall()
    found = {name for name, *_rest in rows}
    assert found == LOOKUPS, "a SECURITY DEFINER function was added or removed: list it here, and say what it answers"
    for name, config, result, public in rows:
        assert config == ["search_path=pg_catalog, public, pg_temp"], name
        assert not public, f"{name} may be called by everybody"
        words = result.replace("TABLE(", "").replace("SETOF ", "").rstrip(")").split(", ")
        assert {word.split()[-1] for word in words} == {"uuid"}, f"{name} answers {result}, not ids only"


async def test_a_transaction_without_identity_sees_nothing_and_writes_nothing(live: Live, owner: Member, app_db):
    async with app_db.transaction() as session:
        for table in ("users", "workspaces", "workspace_members", "api_tokens", "datasets", "notifications", "events"):
            assert await session.scalar(text(f"select count(*) from {table}")) == 0, table
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with app_db.transaction() as session:
            await session.execute(text("insert into workspaces (id, name) values (:id, 'x')"), {"id": UUID(int=1)})


async def test_an_identity_does_not_outlive_its_transaction_on_a_pooled_connection(owner: Member, app_db):
    async with app_db.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
        assert await session.scalar(text("select count(*) from workspaces")) == 1
    async with app_db.transaction() as session:
        assert await session.scalar(text("select count(*) from workspaces")) == 0


async def test_a_foreign_row_can_be_neither_read_changed_nor_made(live: Live, owner: Member, app_db):
    other = live.new_workspace()
    async with app_db.transaction(user_id=other.user_id, workspace_id=other.workspace_id) as session:
        changed = await session.execute(
            text("update workspaces set name = 'mine' where id = :id"), {"id": owner.workspace_id}
        )
        assert changed.rowcount == 0
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with app_db.transaction(user_id=other.user_id, workspace_id=other.workspace_id) as session:
            await session.execute(
                text("insert into workspace_members (workspace_id, user_id, role) values (:w, :u, 'owner')"),
                {"w": owner.workspace_id, "u": other.user_id},
            )


async def test_the_worker_cannot_read_secrets_of_accounts(owner: Member, worker_db):
    for table in ("api_tokens", "auth_sessions", "signin_links", "invitations"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with worker_db.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
                await session.execute(text(f"select 1 from {table}"))


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_the_tables_in_the_code_are_the_tables_in_the_database(pg_urls: DatabaseUrls):
    import_tables()
    engine = create_engine(pg_urls.owner)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _o, name, *_rest: not (name or "").startswith("procrastinate"),
            },
        )
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    assert differences == []


def test_checks_on_enumerations_hold_the_values_of_their_enum(owner_connection):
    import_tables()
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint) and " in ('" in str(constraint.sqltext):
                column = str(constraint.sqltext).split(" in ", 1)[0]
                expected = set(str(constraint.sqltext).split("'")[1::2])
                definition = owner_connection.execute(
                    "select pg_get_constraintdef(oid) from pg_constraint"
                    " where conname = %s and conrelid = %s::regclass",
                    [constraint.name, table.name],
                ).fetchone()
                assert definition is not None, f"{table.name}: no CHECK on {column} in the database"
                assert set(definition[0].split("'")[1::2]) == expected, f"{table.name}.{column}"
