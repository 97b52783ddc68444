"""Trained models, and what is to be purged of them."""

from alembic import op

from brightrun.db import rls

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
create table model_artifacts (
  id uuid constraint model_artifacts_pkey primary key,
  workspace_id uuid not null constraint model_artifacts_workspace_id_fkey references workspaces (id) on delete cascade,
  job_id uuid not null constraint model_artifacts_job_id_fkey references training_jobs (id),
  dataset_id uuid not null constraint model_artifacts_dataset_id_fkey references datasets (id),
  parent_model_id uuid constraint model_artifacts_parent_model_id_fkey references model_artifacts (id) on delete set null,
  name text not null constraint model_artifacts_name_length_check check (char_length(name) between 1 and 255),
  version text not null,
  version_number integer not null constraint model_artifacts_version_number_check check (version_number > 0),
  description text constraint model_artifacts_description_length_check check (char_length(description) <= 10000),
  status text not null default 'stored' constraint model_artifacts_status_check check (status in ('stored', 'archived')),
  storage_bucket text not null,
  storage_path text not null,
  files jsonb not null,
  size_bytes bigint not null,
  base_model jsonb not null,
  quality_metrics jsonb not null,
  training_summary jsonb not null,
  configuration jsonb not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint model_artifacts_has_files_check check (size_bytes > 0 and jsonb_array_length(files) > 0),
  constraint model_artifacts_parent_check check (parent_model_id <> id),
  constraint model_artifacts_job_id_key unique (job_id),
  constraint model_artifacts_dataset_id_version_number_key unique (dataset_id, version_number),
  constraint model_artifacts_storage_bucket_storage_path_key unique (storage_bucket, storage_path)
);
create index model_artifacts_workspace_id_created_at_idx on model_artifacts (workspace_id, created_at desc);
create index model_artifacts_parent_model_id_idx on model_artifacts (parent_model_id);
create index model_artifacts_deleted_at_idx on model_artifacts (deleted_at) where deleted_at is not null;
alter table training_jobs add constraint training_jobs_artifact_id_fkey
  foreign key (artifact_id) references model_artifacts (id) on delete set null;
create index training_jobs_artifact_id_idx on training_jobs (artifact_id) where artifact_id is not null;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    rls.protect("model_artifacts")
    rls.lookup(
        "lookup_purgeable_models",
        "deleted_before timestamptz, beyond uuid",
        "table (workspace uuid, model uuid)",
        # In order of id from the one after `beyond`: one that cannot be purged now holds up no other.
        "select workspace_id, id from model_artifacts"
        " where deleted_at < deleted_before and id > beyond order by id limit 100",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
