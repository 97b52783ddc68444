"""Money that may be spent: a workspace's month, and one job."""

from alembic import op

from brightrun.db import rls

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create table workspace_budgets ("
        " workspace_id uuid constraint workspace_budgets_pkey primary key"
        " constraint workspace_budgets_workspace_id_fkey references workspaces (id) on delete cascade,"
        " monthly_limit numeric(12,6) constraint workspace_budgets_monthly_limit_check check (monthly_limit > 0),"
        " created_at timestamptz not null default now(),"
        " updated_at timestamptz not null default now())"
    )
    rls.protect("workspace_budgets")
    op.execute(
        "alter table training_jobs"
        " add column max_cost numeric(12,6) constraint training_jobs_max_cost_check check (max_cost > 0),"
        " add column budget_override jsonb"
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
