"""Configurations that are saved by name, and what was acknowledged before a job was started."""

from alembic import op

from brightrun.db import rls

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = """
create table configuration_templates (
  id uuid constraint configuration_templates_pkey primary key,
  workspace_id uuid not null
    constraint configuration_templates_workspace_id_fkey references workspaces (id) on delete cascade,
  created_by uuid constraint configuration_templates_created_by_fkey references users (id) on delete set null,
  name text not null
    constraint configuration_templates_name_length_check check (char_length(name) between 1 and 255),
  description text
    constraint configuration_templates_description_length_check check (char_length(description) <= 2000),
  preset_id text not null constraint configuration_templates_preset_id_check
    check (preset_id in ('conservative', 'balanced', 'aggressive', 'custom')),
  overrides jsonb not null default '{}',
  base_model text,
  gpu_config jsonb,
  max_cost numeric(12,6) constraint configuration_templates_max_cost_check check (max_cost > 0),
  source_job_id uuid
    constraint configuration_templates_source_job_id_fkey references training_jobs (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz
);
create unique index configuration_templates_name_key on configuration_templates (workspace_id, lower(name))
  where deleted_at is null;
create index configuration_templates_workspace_id_created_at_idx
  on configuration_templates (workspace_id, created_at desc);
create index configuration_templates_source_job_id_idx on configuration_templates (source_job_id)
  where source_job_id is not null;
create index configuration_templates_created_by_idx on configuration_templates (created_by)
  where created_by is not null;
alter table training_jobs
  add column template_id uuid
    constraint training_jobs_template_id_fkey references configuration_templates (id) on delete set null,
  add column acknowledged jsonb not null default '[]';
create index training_jobs_template_id_idx on training_jobs (template_id) where template_id is not null;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    rls.protect("configuration_templates")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
