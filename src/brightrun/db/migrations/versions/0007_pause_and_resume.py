"""Jobs that are paused, resumed from a chosen checkpoint with changes, and what each interruption cost."""

from alembic import op

from brightrun.db import rls

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = """
alter table training_jobs
  add column pause_requested_at timestamptz,
  add column cancel_saves boolean not null default true,
  add column checkpoints jsonb not null default '[]',
  add column resume_step integer,
  add column run_changes jsonb not null default '{}';
alter table training_attempts
  add column step_reached integer not null default 0,
  add column saved_at timestamptz;
"""


def upgrade() -> None:
    for statement in COLUMNS.split(";\n"):
        if statement.strip():
            op.execute(statement)
    # A run of an earlier version had its newest checkpoint at least.
    op.execute(
        "update training_jobs set checkpoints = jsonb_build_array(checkpoint_step)"
        " where checkpoint_step > 0 and run_dir is not null"
    )
    rls.lookup(
        "lookup_overdue_stops",
        "asked_before timestamptz",
        "table (workspace uuid, job uuid)",
        # Asked to stop, and nobody has said since that nothing of it runs any more.
        "select workspace_id, id from training_jobs where status in ('initializing', 'running') and trained_at is null"
        " and cancel_requested_at < asked_before order by cancel_requested_at limit 100",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
