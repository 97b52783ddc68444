"""Training jobs, their attempts, curves and logs; what a supervisor may discover about them."""

from alembic import op

from brightrun.db import rls

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
create table training_jobs (
  id uuid constraint training_jobs_pkey primary key,
  workspace_id uuid not null constraint training_jobs_workspace_id_fkey references workspaces (id) on delete cascade,
  created_by uuid constraint training_jobs_created_by_fkey references users (id) on delete set null,
  dataset_id uuid not null constraint training_jobs_dataset_id_fkey references datasets (id) on delete restrict,
  dataset_sha256 text not null,
  name text not null constraint training_jobs_name_length_check check (char_length(name) between 1 and 255),
  preset_id text not null constraint training_jobs_preset_id_check check (preset_id in ('conservative', 'balanced', 'aggressive', 'custom')),
  base_model text not null,
  seed bigint not null,
  overrides jsonb not null default '{}',
  hyperparameters jsonb not null,
  rules_fired jsonb not null default '[]',
  gpu_config jsonb not null,
  price_per_hour numeric(12,6) not null,
  estimate jsonb not null,
  idempotency_key text,
  request_hash text,
  status text not null default 'queued' constraint training_jobs_status_check check (status in ('queued', 'initializing', 'running', 'completed', 'failed', 'cancelled', 'interrupted', 'paused')),
  stage text constraint training_jobs_stage_check check (stage in ('preprocessing', 'model_loading', 'training', 'finalizing')),
  progress numeric(6,3) not null default 0 constraint training_jobs_progress_check check (progress between 0 and 100),
  current_epoch double precision not null default 0,
  total_epochs integer not null,
  current_step integer not null default 0,
  total_steps integer,
  current_metrics jsonb,
  queued_at timestamptz not null default now(),
  started_at timestamptz,
  estimated_completion_at timestamptz,
  trained_at timestamptz,
  completed_at timestamptz,
  current_cost numeric(12,6) not null default 0,
  final_cost numeric(12,6),
  waiting_reason text,
  error_code text,
  error_message text,
  error_advice text,
  error_evidence text,
  cancel_requested_at timestamptz,
  cancel_reason text,
  cancel_note text constraint training_jobs_cancel_note_length_check check (char_length(cancel_note) <= 2000),
  executor text not null default 'local',
  host text,
  run_dir text,
  run_number integer not null default 0,
  lease_owner text,
  lease_expires_at timestamptz,
  attempt integer not null default 0,
  event_offset bigint not null default 0,
  last_event_seq bigint not null default 0,
  log_offset bigint not null default 0,
  checkpoint_step integer not null default 0,
  fruitless integer not null default 0,
  own_failures integer not null default 0,
  next_attempt_at timestamptz,
  artifact_id uuid,
  heldout_loss_base double precision,
  heldout_loss_adapter double precision,
  heldout_conversations integer,
  heldout_tokens bigint,
  train_loss_first double precision,
  train_loss_last double precision,
  result jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint training_jobs_cost_check check (current_cost >= 0 and final_cost >= 0),
  constraint training_jobs_failed_check check (status <> 'failed' or (error_code is not null and error_message is not null)),
  constraint training_jobs_completed_check check (status <> 'completed' or (completed_at is not null and progress = 100)),
  constraint training_jobs_lease_check check ((lease_owner is null) = (lease_expires_at is null)),
  constraint training_jobs_workspace_id_idempotency_key_key unique (workspace_id, idempotency_key)
);
create index training_jobs_workspace_id_created_at_idx on training_jobs (workspace_id, created_at desc);
create index training_jobs_workspace_id_status_idx on training_jobs (workspace_id, status);
create index training_jobs_dataset_id_idx on training_jobs (dataset_id);
create index training_jobs_created_by_idx on training_jobs (created_by) where created_by is not null;
create index training_jobs_open_idx on training_jobs (queued_at) where status in ('queued', 'interrupted', 'initializing', 'running');

create table training_attempts (
  id uuid constraint training_attempts_pkey primary key,
  workspace_id uuid not null constraint training_attempts_workspace_id_fkey references workspaces (id) on delete cascade,
  job_id uuid not null constraint training_attempts_job_id_fkey references training_jobs (id) on delete cascade,
  n integer not null,
  host text not null,
  devices text,
  pid integer,
  process_started double precision,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  exit_code integer,
  outcome text constraint training_attempts_outcome_check check (outcome in ('done', 'interrupted', 'failed', 'cancelled')),
  reason text,
  message text,
  events_before bigint not null default 0,
  checkpoint_before integer not null default 0,
  checkpoint_after integer,
  seconds numeric(14,3),
  cost numeric(12,6),
  constraint training_attempts_ended_check check ((ended_at is null) = (outcome is null)),
  constraint training_attempts_cost_check check (cost >= 0 and seconds >= 0),
  constraint training_attempts_job_id_n_key unique (job_id, n)
);
create index training_attempts_workspace_id_idx on training_attempts (workspace_id);

create table metrics_points (
  job_id uuid not null constraint metrics_points_job_id_fkey references training_jobs (id) on delete cascade,
  workspace_id uuid not null constraint metrics_points_workspace_id_fkey references workspaces (id) on delete cascade,
  kind text not null constraint metrics_points_kind_check check (kind in ('train', 'heldout')),
  step integer not null,
  epoch double precision not null,
  training_loss double precision,
  validation_loss double precision,
  learning_rate double precision,
  gradient_norm double precision,
  trained_tokens bigint,
  throughput double precision,
  memory_bytes bigint,
  gpu_memory_bytes bigint,
  gpu_utilization double precision,
  recorded_at timestamptz not null,
  run integer not null,
  seq bigint not null,
  constraint metrics_points_pkey primary key (job_id, kind, step)
);
create index metrics_points_workspace_id_idx on metrics_points (workspace_id);

create table job_events (
  id uuid constraint job_events_pkey primary key,
  workspace_id uuid not null constraint job_events_workspace_id_fkey references workspaces (id) on delete cascade,
  job_id uuid not null constraint job_events_job_id_fkey references training_jobs (id) on delete cascade,
  source text not null constraint job_events_source_check check (source in ('trainer', 'log', 'supervisor')),
  run integer not null,
  seq bigint not null,
  attempt integer not null,
  type text not null,
  level text not null default 'info' constraint job_events_level_check check (level in ('info', 'warning', 'error')),
  message text not null,
  details jsonb not null default '{}',
  recorded_at timestamptz not null,
  constraint job_events_job_id_source_run_seq_key unique (job_id, source, run, seq)
);
create index job_events_job_id_recorded_at_idx on job_events (job_id, recorded_at, id);
create index job_events_workspace_id_idx on job_events (workspace_id);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in ("training_jobs", "training_attempts", "metrics_points", "job_events"):
        rls.protect(table)
    rls.lookup(
        "lookup_host_jobs",
        "machine text",
        "table (workspace uuid, job uuid)",
        # What this machine is responsible for, whoever follows it now.
        "select workspace_id, id from training_jobs"
        " where status in ('initializing', 'running') and trained_at is null and host = machine order by started_at",
        to="worker",
    )
    rls.lookup(
        "lookup_startable_jobs",
        "machine text, lost_before timestamptz",
        "table (workspace uuid, job uuid)",
        # Interrupted ones had their turn already; then fair between workspaces; then the oldest. A run directory is on
        # its machine's disk, so others take a job only when that machine has been away since `lost_before`.
        "select j.workspace_id, j.id from training_jobs j where ("
        " (j.status in ('queued', 'interrupted') and (j.next_attempt_at is null or j.next_attempt_at <= now())"
        "  and (j.host is null or j.host = machine or j.updated_at < lost_before))"
        " or (j.status in ('initializing', 'running') and j.trained_at is null and j.host is distinct from machine"
        "  and j.lease_expires_at < lost_before))"
        " order by (j.status = 'queued'), (select count(*) from training_jobs r where r.workspace_id = j.workspace_id"
        "  and r.status in ('initializing', 'running') and r.trained_at is null), j.queued_at, j.id limit 20",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
