"""Probes of estimates, lengths of datasets by tokenizer, and what became of a job's promise."""

from alembic import op

from brightrun.db import rls

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLES = """
create table estimate_probes (
  id uuid constraint estimate_probes_pkey primary key,
  workspace_id uuid not null
    constraint estimate_probes_workspace_id_fkey references workspaces (id) on delete cascade,
  created_by uuid constraint estimate_probes_created_by_fkey references users (id) on delete set null,
  dataset_id uuid not null constraint estimate_probes_dataset_id_fkey references datasets (id) on delete cascade,
  dataset_sha256 text not null,
  base_model text not null,
  preset_id text not null,
  overrides jsonb not null default '{}',
  hyperparameters jsonb not null,
  gpu_config jsonb not null,
  key text not null,
  status text not null default 'queued' constraint estimate_probes_status_check
    check (status in ('queued', 'running', 'done', 'failed', 'cancelled')),
  progress numeric(5,4) not null default 0
    constraint estimate_probes_progress_check check (progress between 0 and 1),
  words text,
  host text,
  machine text,
  measurement jsonb,
  promise jsonb,
  cancel_requested_at timestamptz,
  error_code text,
  error_message text,
  started_at timestamptz,
  ended_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint estimate_probes_done_check
    check (status <> 'done' or (measurement is not null and ended_at is not null)),
  constraint estimate_probes_failed_check
    check (status <> 'failed' or (error_code is not null and error_message is not null))
);
create index estimate_probes_workspace_id_created_at_idx on estimate_probes (workspace_id, created_at desc);
create index estimate_probes_workspace_id_key_idx on estimate_probes (workspace_id, key);
create index estimate_probes_dataset_id_idx on estimate_probes (dataset_id);
create index estimate_probes_created_by_idx on estimate_probes (created_by) where created_by is not null;
create table dataset_lengths (
  id uuid constraint dataset_lengths_pkey primary key,
  workspace_id uuid not null
    constraint dataset_lengths_workspace_id_fkey references workspaces (id) on delete cascade,
  dataset_id uuid not null constraint dataset_lengths_dataset_id_fkey references datasets (id) on delete cascade,
  dataset_sha256 text not null,
  tokenizer_sha256 text not null,
  base_model text not null,
  rows jsonb,
  conversations bigint,
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint dataset_lengths_key unique (dataset_id, dataset_sha256, tokenizer_sha256),
  constraint dataset_lengths_rows_check check ((rows is null) = (conversations is null))
);
create index dataset_lengths_workspace_id_idx on dataset_lengths (workspace_id, dataset_id);
alter table training_jobs add column actual jsonb;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in ("estimate_probes", "dataset_lengths"):
        rls.protect(table)


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
