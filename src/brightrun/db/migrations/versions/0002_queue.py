"""The queue's own tables, as the installed procrastinate makes them.

A later revision that brings one of procrastinate's upgrade files must ask first whether its objects are there: a database
made after procrastinate was upgraded has them from here.
"""

from alembic import op
from procrastinate.schema import SchemaManager

from brightrun.db import rls

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    "procrastinate_jobs",
    "procrastinate_events",
    "procrastinate_periodic_defers",
    "procrastinate_workers",
)

# PostgreSQL gives both to everyone unless its owner has changed the defaults.
OBJECTS = """
select 'usage on type', oid::regtype::text from pg_type
where typnamespace = current_schema()::regnamespace and typname ~ '^procrastinate_job_' and typtype = 'e'
union all
select 'execute on function', oid::regprocedure::text from pg_proc
where pronamespace = current_schema()::regnamespace and proname ~ '^procrastinate_'
"""


def upgrade() -> None:
    raw = op.get_bind().connection.driver_connection
    assert raw is not None
    raw.execute(SchemaManager.get_schema())

    _owner, app, worker = rls.roles()
    op.execute(f"grant select, insert, update, delete on {', '.join(TABLES)} to {worker}")
    # The application puts work in and counts it. What the arguments of a waiting task say is no business of a request.
    op.execute(f"grant insert on procrastinate_jobs, procrastinate_events to {app}")
    # PostgreSQL names the key that a refused duplicate has only to those who may read it, and procrastinate looks there.
    op.execute(
        "grant select (id, queue_name, task_name, priority, status, scheduled_at, attempts, worker_id, queueing_lock)"
        f" on procrastinate_jobs to {app}"
    )
    op.execute(f"grant select on procrastinate_workers to {app}")
    op.execute(
        "grant usage on sequence procrastinate_jobs_id_seq, procrastinate_events_id_seq,"
        f" procrastinate_periodic_defers_id_seq to {app}, {worker}"
    )
    for kind, name in raw.execute(OBJECTS).fetchall():
        op.execute(f"grant {kind} {name} to {app}, {worker}")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
