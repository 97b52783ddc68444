"""The audit log names its actor; a workspace's quota is the operator's to set; old run directories are found."""

from alembic import op

from brightrun.db import rls

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _owner, app, worker = rls.roles()
    op.execute("alter table audit_log add column actor text")
    op.execute("update audit_log set actor = users.email from users where users.id = audit_log.user_id")
    # With the id: entries of one transaction have one time, and pages of the log need one order.
    op.execute("drop index audit_log_workspace_id_created_at_idx")
    op.execute("create index audit_log_workspace_id_created_at_idx on audit_log (workspace_id, created_at, id)")
    # The rest of the row is the workspace's own; what it may store is not.
    op.execute(f"revoke update on workspaces from {app}, {worker}")
    op.execute(f"grant update (name, updated_at, deleted_at) on workspaces to {app}")
    rls.lookup(
        "lookup_purgeable_runs",
        "machine text, before timestamptz",
        "table (workspace uuid, job uuid)",
        "select workspace_id, id from training_jobs where status = 'completed' and run_dir is not null"
        " and host = machine and completed_at < before order by completed_at limit 100",
        to="worker",
    )
    op.execute(
        "create index training_jobs_run_dir_idx on training_jobs (host, completed_at)"
        " where status = 'completed' and run_dir is not null"
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
