"""Conversations that models write: batches, their items and runs, and what became of them."""

from alembic import op

from brightrun.db import rls

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLES = """
create table batch_jobs (
  created_by uuid,
  name text not null,
  origin text not null,
  status text default 'queued' not null,
  stopped_reason text,
  stop_requested text,
  priority text default 'normal' not null,
  plan jsonb not null,
  plan_hash text not null,
  pack_key text not null,
  pack_version text not null,
  systems jsonb not null,
  provider text not null,
  model text not null,
  via text default 'sync' not null,
  concurrency integer default 3 not null,
  error_handling text default 'continue' not null,
  max_attempts integer default 3 not null,
  max_cost numeric(12, 6),
  reserved numeric(12, 6) default 0 not null,
  quote jsonb not null,
  prices jsonb,
  total_items integer not null,
  started_at timestamp with time zone,
  completed_at timestamp with time zone,
  error_code text,
  error_message text,
  idempotency_key text,
  request_hash text,
  id uuid not null,
  workspace_id uuid not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null,
  constraint batch_jobs_pkey primary key (id),
  constraint batch_jobs_status_check check (status in ('queued', 'processing', 'paused', 'completed', 'failed', 'cancelled')),
  constraint batch_jobs_stopped_reason_check check (stopped_reason in ('finished', 'cap', 'cancelled', 'error', 'paused')),
  constraint batch_jobs_priority_check check (priority in ('low', 'normal', 'high')),
  constraint batch_jobs_error_handling_check check (error_handling in ('continue', 'stop')),
  constraint batch_jobs_via_check check (via in ('sync', 'batch')),
  constraint batch_jobs_name_length_check check (char_length(name) between 1 and 255),
  constraint batch_jobs_concurrency_check check (concurrency between 1 and 1000),
  constraint batch_jobs_max_attempts_check check (max_attempts between 1 and 20),
  constraint batch_jobs_max_cost_check check (max_cost > 0),
  constraint batch_jobs_total_items_check check (total_items > 0),
  constraint batch_jobs_stop_requested_check check (stop_requested in ('pause', 'cancel')),
  constraint batch_jobs_completed_check check (status <> 'completed' or completed_at is not null),
  constraint batch_jobs_workspace_id_idempotency_key_key unique (workspace_id, idempotency_key),
  constraint batch_jobs_created_by_fkey foreign key(created_by) references users (id) on delete set null,
  constraint batch_jobs_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index batch_jobs_created_by_idx on batch_jobs (created_by) where created_by is not null;
create index batch_jobs_open_idx on batch_jobs (created_at) where status in ('queued', 'processing');
create index batch_jobs_workspace_id_created_at_idx on batch_jobs (workspace_id, created_at desc);
create index batch_jobs_workspace_id_plan_hash_idx on batch_jobs (workspace_id, plan_hash);
create table batch_runs (
  batch_job_id uuid not null,
  lock_key bigint not null,
  host text not null,
  pid integer not null,
  started_at timestamp with time zone default now() not null,
  ended_at timestamp with time zone,
  stopped_reason text,
  sent integer default 0 not null,
  id uuid not null,
  workspace_id uuid not null,
  constraint batch_runs_pkey primary key (id),
  constraint batch_runs_stopped_reason_check check (stopped_reason in ('finished', 'cap', 'cancelled', 'error', 'paused')),
  constraint batch_runs_lock_key_key unique (lock_key),
  constraint batch_runs_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete cascade,
  constraint batch_runs_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index batch_runs_batch_job_id_idx on batch_runs (batch_job_id, started_at);
create index batch_runs_workspace_id_idx on batch_runs (workspace_id);
create table message_batches (
  batch_job_id uuid not null,
  provider_id text,
  status text default 'intended' not null,
  requests integer not null,
  created_at timestamp with time zone default now() not null,
  ended_at timestamp with time zone,
  id uuid not null,
  workspace_id uuid not null,
  constraint message_batches_pkey primary key (id),
  constraint message_batches_status_check check (status in ('intended', 'created', 'collected', 'lost')),
  constraint message_batches_provider_id_check check (status not in ('created', 'collected') or provider_id is not null),
  constraint message_batches_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete cascade,
  constraint message_batches_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index message_batches_batch_job_id_idx on message_batches (batch_job_id, status);
create index message_batches_workspace_id_idx on message_batches (workspace_id);
create table conversations (
  created_by uuid,
  batch_job_id uuid,
  request_id uuid not null,
  work_key text not null,
  title text not null,
  status text default 'pending_review' not null,
  pack_key text not null,
  persona_key text not null,
  arc_key text not null,
  topic_key text not null,
  template_key text not null,
  tier text not null,
  scaffolding jsonb not null,
  details jsonb not null,
  notes jsonb default '[]' not null,
  source jsonb,
  turn_count integer not null,
  starting_emotion text,
  ending_emotion text,
  emotional_intensity_start double precision,
  emotional_intensity_end double precision,
  model text not null,
  total_tokens integer not null,
  cost_usd numeric(12, 6),
  generation_duration_ms integer,
  id uuid not null,
  workspace_id uuid not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null,
  constraint conversations_pkey primary key (id),
  constraint conversations_status_check check (status in ('pending_review', 'approved', 'needs_revision', 'rejected', 'archived')),
  constraint conversations_turn_count_check check (turn_count > 0),
  constraint conversations_workspace_id_work_key_key unique (workspace_id, work_key),
  constraint conversations_created_by_fkey foreign key(created_by) references users (id) on delete set null,
  constraint conversations_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete set null,
  constraint conversations_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index conversations_batch_job_id_idx on conversations (batch_job_id) where batch_job_id is not null;
create index conversations_created_by_idx on conversations (created_by) where created_by is not null;
create index conversations_workspace_id_cell_idx on conversations (workspace_id, pack_key, persona_key, arc_key, topic_key);
create index conversations_workspace_id_created_at_idx on conversations (workspace_id, created_at desc, id desc);
create index conversations_workspace_id_status_idx on conversations (workspace_id, status);
create table batch_items (
  batch_job_id uuid not null,
  position integer not null,
  persona_key text not null,
  arc_key text not null,
  topic_key text not null,
  template_key text not null,
  tier text not null,
  replicate integer not null,
  source jsonb,
  work_key text not null,
  system_hash text not null,
  prompt text not null,
  max_tokens integer not null,
  turns_min integer not null,
  turns_max integer not null,
  bound numeric(12, 6),
  status text default 'pending' not null,
  attempts integer default 0 not null,
  reused boolean default false not null,
  failure_class text,
  failure_message text,
  retry_at timestamp with time zone,
  run_id uuid,
  request_id uuid,
  message_batch_id uuid,
  conversation_id uuid,
  updated_at timestamp with time zone default now() not null,
  id uuid not null,
  workspace_id uuid not null,
  constraint batch_items_pkey primary key (id),
  constraint batch_items_status_check check (status in ('pending', 'processing', 'written', 'failed')),
  constraint batch_items_failure_class_check check (failure_class in ('ok', 'refusal', 'truncated', 'context_overflow', 'schema_invalid', 'semantic_invalid', 'transport', 'budget', 'rejected')),
  constraint batch_items_failed_check check ((status = 'failed') = (failure_class is not null)),
  constraint batch_items_leased_check check (status <> 'processing' or run_id is not null),
  constraint batch_items_attempts_check check (attempts >= 0),
  constraint batch_items_batch_job_id_position_key unique (batch_job_id, position),
  constraint batch_items_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete cascade,
  constraint batch_items_message_batch_id_fkey foreign key(message_batch_id) references message_batches (id) on delete set null,
  constraint batch_items_conversation_id_fkey foreign key(conversation_id) references conversations (id) on delete set null,
  constraint batch_items_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index batch_items_batch_job_id_status_idx on batch_items (batch_job_id, status, position);
create index batch_items_conversation_id_idx on batch_items (conversation_id) where conversation_id is not null;
create index batch_items_message_batch_id_idx on batch_items (message_batch_id) where message_batch_id is not null;
create index batch_items_workspace_id_work_key_idx on batch_items (workspace_id, work_key);
create table conversation_turns (
  conversation_id uuid not null,
  turn_number integer not null,
  role text not null,
  content text not null,
  emotional_context jsonb not null,
  workspace_id uuid not null,
  constraint conversation_turns_pkey primary key (conversation_id, turn_number),
  constraint conversation_turns_role_check check (role in ('user', 'assistant')),
  constraint conversation_turns_turn_number_check check (turn_number > 0),
  constraint conversation_turns_conversation_id_fkey foreign key(conversation_id) references conversations (id) on delete cascade,
  constraint conversation_turns_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index conversation_turns_workspace_id_idx on conversation_turns (workspace_id);
create table failed_generations (
  batch_job_id uuid not null,
  batch_item_id uuid not null,
  request_id uuid,
  attempt integer not null,
  failure_class text not null,
  reason text not null,
  message text not null,
  stop_reason text,
  model text not null,
  max_tokens integer not null,
  input_tokens integer,
  output_tokens integer,
  cost_usd numeric(12, 6),
  resolved_at timestamp with time zone,
  created_at timestamp with time zone default now() not null,
  id uuid not null,
  workspace_id uuid not null,
  constraint failed_generations_pkey primary key (id),
  constraint failed_generations_failure_class_check check (failure_class in ('ok', 'refusal', 'truncated', 'context_overflow', 'schema_invalid', 'semantic_invalid', 'transport', 'budget', 'rejected')),
  constraint failed_generations_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete cascade,
  constraint failed_generations_batch_item_id_fkey foreign key(batch_item_id) references batch_items (id) on delete cascade,
  constraint failed_generations_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index failed_generations_batch_item_id_idx on failed_generations (batch_item_id);
create index failed_generations_batch_job_id_idx on failed_generations (batch_job_id);
create index failed_generations_workspace_id_class_idx on failed_generations (workspace_id, failure_class);
create index failed_generations_workspace_id_created_at_idx on failed_generations (workspace_id, created_at desc, id desc);
create table generation_logs (
  batch_job_id uuid not null,
  position integer,
  event text not null,
  level text default 'info' not null,
  message text not null,
  created_at timestamp with time zone default now() not null,
  id uuid not null,
  workspace_id uuid not null,
  constraint generation_logs_pkey primary key (id),
  constraint generation_logs_level_check check (level in ('info', 'warning', 'error')),
  constraint generation_logs_batch_job_id_fkey foreign key(batch_job_id) references batch_jobs (id) on delete cascade,
  constraint generation_logs_workspace_id_fkey foreign key(workspace_id) references workspaces (id) on delete cascade
);
create index generation_logs_batch_job_id_created_at_idx on generation_logs (batch_job_id, created_at, id);
create index generation_logs_workspace_id_idx on generation_logs (workspace_id);
"""
PROTECTED = (
    "batch_jobs",
    "batch_runs",
    "message_batches",
    "conversations",
    "batch_items",
    "conversation_turns",
    "failed_generations",
    "generation_logs",
)


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in PROTECTED:
        rls.protect(table)
    # Batches that a worker should be at and nobody is: for the sweeper.
    rls.lookup(
        "lookup_idle_batches",
        "",
        "table (workspace uuid, batch uuid)",
        "select job.workspace_id, job.id from batch_jobs job"
        " where job.status in ('queued', 'processing') and job.origin <> 'cli'"
        " and not exists (select 1 from procrastinate_jobs waiting where waiting.task_name = 'generation.run'"
        " and waiting.status in ('todo', 'doing') and waiting.args ->> 'batch_id' = job.id::text)"
        " order by job.created_at limit 100",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
