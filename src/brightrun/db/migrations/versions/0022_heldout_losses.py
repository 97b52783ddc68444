"""What a run measured on each held-out conversation, so that runs can be compared after their directories are gone."""

from alembic import op

from brightrun.db import rls

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create table training_heldout_losses ("
        " job_id uuid constraint training_heldout_losses_pkey primary key"
        " constraint training_heldout_losses_job_id_fkey references training_jobs (id) on delete cascade,"
        " workspace_id uuid not null"
        " constraint training_heldout_losses_workspace_id_fkey references workspaces (id) on delete cascade,"
        " unit text not null,"
        " conversations jsonb not null)"
    )
    op.execute("create index training_heldout_losses_workspace_id_idx on training_heldout_losses (workspace_id)")
    rls.protect("training_heldout_losses")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
