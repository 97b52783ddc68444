"""Warnings about datasets that somebody has dismissed."""

from alembic import op

from brightrun.db import rls

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
create table dataset_dismissals (
  id uuid constraint dataset_dismissals_pkey primary key,
  workspace_id uuid not null constraint dataset_dismissals_workspace_id_fkey references workspaces (id) on delete cascade,
  dataset_id uuid not null constraint dataset_dismissals_dataset_id_fkey references datasets (id) on delete cascade,
  code text not null,
  line bigint,
  path text,
  fingerprint text,
  reason text not null constraint dataset_dismissals_reason_length_check check (char_length(reason) between 1 and 1000),
  dismissed_by uuid constraint dataset_dismissals_dismissed_by_fkey references users (id) on delete set null,
  dismissed_at timestamptz not null default now(),
  constraint dataset_dismissals_place_check check (
    (line is null) = (path is null) and (line is null) = (fingerprint is null) and (line is null or line > 0)
  ),
  constraint dataset_dismissals_place_key unique nulls not distinct (dataset_id, code, line, path, fingerprint)
);
create index dataset_dismissals_workspace_id_idx on dataset_dismissals (workspace_id, dataset_id);
create index dataset_dismissals_dismissed_by_idx on dataset_dismissals (dismissed_by) where dismissed_by is not null;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    rls.protect("dataset_dismissals")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
