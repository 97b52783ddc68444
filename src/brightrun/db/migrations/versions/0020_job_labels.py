"""Tags and notes of training jobs, jobs that are put away, and the indexes of a list with filters."""

from alembic import op

from brightrun.db import rls

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = """
create table training_job_tags (
  job_id uuid not null constraint training_job_tags_job_id_fkey references training_jobs (id) on delete cascade,
  tag text not null constraint training_job_tags_tag_length_check check (char_length(tag) between 1 and 30),
  workspace_id uuid not null
    constraint training_job_tags_workspace_id_fkey references workspaces (id) on delete cascade,
  constraint training_job_tags_pkey primary key (job_id, tag)
);
create index training_job_tags_workspace_id_tag_idx on training_job_tags (workspace_id, tag, job_id);
create table training_job_notes (
  id uuid constraint training_job_notes_pkey primary key,
  workspace_id uuid not null
    constraint training_job_notes_workspace_id_fkey references workspaces (id) on delete cascade,
  job_id uuid not null constraint training_job_notes_job_id_fkey references training_jobs (id) on delete cascade,
  created_by uuid constraint training_job_notes_created_by_fkey references users (id) on delete set null,
  author text not null,
  text text not null constraint training_job_notes_text_length_check check (char_length(text) between 1 and 2000),
  created_at timestamptz not null default now()
);
create index training_job_notes_job_id_created_at_idx on training_job_notes (job_id, created_at);
create index training_job_notes_workspace_id_idx on training_job_notes (workspace_id);
create index training_job_notes_created_by_idx on training_job_notes (created_by) where created_by is not null;
alter table training_jobs add column archived_at timestamptz constraint training_jobs_archived_check
  check (archived_at is null or status in ('completed', 'failed', 'cancelled'));
create index training_jobs_shown_idx on training_jobs (workspace_id, created_at desc, id desc)
  where archived_at is null;
create index training_jobs_workspace_id_choices_idx on training_jobs (workspace_id, dataset_id, base_model, created_by);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in ("training_job_tags", "training_job_notes"):
        rls.protect(table)


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
