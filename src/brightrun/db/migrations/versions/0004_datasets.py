"""Datasets, and what the sweeper may discover about them."""

from alembic import op

from brightrun.db import rls

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FORMATS = (
    "'brightrun_lora_v4', 'brightrun_lora_v3', 'openai_messages', 'sharegpt', 'alpaca', 'prompt_completion',"
    " 'preference', 'kto', 'enriched_conversation'"
)

TABLES = f"""
create table datasets (
  id uuid constraint datasets_pkey primary key,
  workspace_id uuid not null constraint datasets_workspace_id_fkey references workspaces (id) on delete cascade,
  created_by uuid constraint datasets_created_by_fkey references users (id) on delete set null,
  name text not null constraint datasets_name_length_check check (char_length(name) between 1 and 255),
  description text constraint datasets_description_length_check check (char_length(description) <= 10000),
  status text not null default 'uploading' constraint datasets_status_check check (status in ('uploading', 'validating', 'ready', 'error')),
  declared_format text constraint datasets_declared_format_check check (declared_format in ({FORMATS})),
  format text constraint datasets_format_check check (format in ({FORMATS})),
  format_reason text,
  file_name text not null constraint datasets_file_name_length_check check (char_length(file_name) between 1 and 255),
  file_size bigint not null constraint datasets_file_size_check check (file_size > 0),
  declared_sha256 text constraint datasets_declared_sha256_check check (declared_sha256 ~ '^[0-9a-f]{{64}}$'),
  sha256 text constraint datasets_sha256_check check (sha256 ~ '^[0-9a-f]{{64}}$'),
  storage_bucket text not null default 'lora-datasets',
  storage_path text not null,
  upload_id text,
  upload_renewed_at timestamptz not null default now(),
  object_deleted_at timestamptz,
  validation_attempt integer not null default 0,
  validation_sweeps integer not null default 0,
  validation_started_at timestamptz,
  validation_heartbeat_at timestamptz,
  validated_bytes bigint not null default 0,
  validated_at timestamptz,
  training_ready boolean not null default false,
  total_records bigint,
  total_conversations bigint,
  total_training_pairs bigint,
  total_turns bigint,
  total_tokens bigint,
  tokens_source text,
  avg_turns_per_conversation double precision,
  avg_tokens_per_turn double precision,
  errors_total bigint,
  warnings_total bigint,
  issue_counts jsonb,
  issues_path text,
  validation_errors jsonb,
  sample_data jsonb,
  report jsonb,
  error_code text,
  error_message text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint datasets_error_is_explained_check check (status <> 'error' or (error_code is not null and error_message is not null)),
  constraint datasets_ready_is_validated_check check (status <> 'ready' or (validated_at is not null and format is not null and sha256 is not null)),
  constraint datasets_training_ready_check check (not training_ready or status = 'ready'),
  constraint datasets_validating_has_heartbeat_check check (status <> 'validating' or validation_heartbeat_at is not null)
);
create unique index datasets_workspace_id_storage_path_key on datasets (workspace_id, storage_bucket, storage_path) where deleted_at is null;
create index datasets_workspace_id_created_at_idx on datasets (workspace_id, created_at desc) where deleted_at is null;
create index datasets_workspace_id_status_idx on datasets (workspace_id, status) where deleted_at is null;
create index datasets_created_by_idx on datasets (created_by) where created_by is not null;
create index datasets_validating_idx on datasets (validation_heartbeat_at) where status = 'validating';
create index datasets_uploading_idx on datasets (upload_renewed_at) where status = 'uploading';
create index datasets_deleted_at_idx on datasets (deleted_at) where deleted_at is not null;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    rls.protect("datasets")
    # A few at a time: a sweep works through what there is, and comes again.
    rls.lookup(
        "lookup_stuck_datasets",
        "before timestamptz",
        "table (workspace uuid, dataset uuid)",
        "select workspace_id, id from datasets where status = 'validating' and validation_heartbeat_at < before"
        " order by validation_heartbeat_at limit 10",
        to="worker",
    )
    rls.lookup(
        "lookup_unconfirmed_datasets",
        "before timestamptz",
        "table (workspace uuid, dataset uuid)",
        "select workspace_id, id from datasets where status = 'uploading' and upload_renewed_at < before"
        " order by upload_renewed_at limit 100",
        to="worker",
    )
    rls.lookup(
        "lookup_purgeable_datasets",
        "before timestamptz, beyond uuid",
        "table (workspace uuid, dataset uuid)",
        "select workspace_id, id from datasets where deleted_at < before and id > beyond order by id limit 100",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
