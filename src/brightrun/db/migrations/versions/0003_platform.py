"""What every room uses: events for live pages, notifications, the audit log, costs."""

from alembic import op

from brightrun.db import rls

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
create table events (
  id bigint generated always as identity constraint events_pkey primary key,
  workspace_id uuid not null constraint events_workspace_id_fkey references workspaces (id) on delete cascade,
  xid xid8 not null default pg_current_xact_id(),
  topic text not null,
  kind text not null,
  payload jsonb not null,
  created_at timestamptz not null default now(),
  constraint events_payload_size_check check (octet_length(payload::text) <= 16384)
);
create index events_workspace_id_xid_idx on events (workspace_id, xid);
create index events_workspace_id_created_at_idx on events (workspace_id, created_at);

create table notifications (
  id uuid constraint notifications_pkey primary key,
  workspace_id uuid not null constraint notifications_workspace_id_fkey references workspaces (id) on delete cascade,
  type text not null constraint notifications_type_check check (type in ('dataset_ready', 'dataset_error', 'job_queued', 'job_started', 'job_completed', 'job_failed', 'job_cancelled', 'job_interrupted', 'cost_alert', 'system')),
  title text not null constraint notifications_title_length_check check (char_length(title) between 1 and 200),
  message text not null,
  priority text not null constraint notifications_priority_check check (priority in ('low', 'medium', 'high')),
  action_url text,
  metadata jsonb not null default '{}',
  dedupe_key text not null,
  created_at timestamptz not null default now(),
  constraint notifications_workspace_id_dedupe_key_key unique (workspace_id, dedupe_key)
);
create index notifications_workspace_id_created_at_idx on notifications (workspace_id, created_at);

create table notification_reads (
  notification_id uuid not null constraint notification_reads_notification_id_fkey references notifications (id) on delete cascade,
  user_id uuid not null constraint notification_reads_user_id_fkey references users (id) on delete cascade,
  workspace_id uuid not null constraint notification_reads_workspace_id_fkey references workspaces (id) on delete cascade,
  read_at timestamptz not null default now(),
  constraint notification_reads_pkey primary key (notification_id, user_id)
);
create index notification_reads_user_id_idx on notification_reads (user_id);
create index notification_reads_workspace_id_idx on notification_reads (workspace_id);

create table audit_log (
  id uuid constraint audit_log_pkey primary key,
  workspace_id uuid constraint audit_log_workspace_id_fkey references workspaces (id) on delete cascade,
  user_id uuid constraint audit_log_user_id_fkey references users (id) on delete set null,
  action text not null,
  target_kind text not null,
  target_id text,
  details jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index audit_log_workspace_id_created_at_idx on audit_log (workspace_id, created_at);
create index audit_log_user_id_idx on audit_log (user_id);

create table cost_records (
  id uuid constraint cost_records_pkey primary key,
  workspace_id uuid not null constraint cost_records_workspace_id_fkey references workspaces (id) on delete cascade,
  job_id uuid,
  cost_type text not null constraint cost_records_cost_type_check check (cost_type in ('compute', 'storage', 'data_transfer', 'api_calls')),
  amount numeric(12,6) not null constraint cost_records_amount_check check (amount >= 0),
  details jsonb not null default '{}',
  billing_period date not null constraint cost_records_billing_period_check check (extract(day from billing_period) = 1),
  dedupe_key text not null,
  recorded_at timestamptz not null default now(),
  constraint cost_records_workspace_id_dedupe_key_key unique (workspace_id, dedupe_key)
);
create index cost_records_workspace_id_recorded_at_idx on cost_records (workspace_id, recorded_at);
create index cost_records_workspace_id_billing_period_idx on cost_records (workspace_id, billing_period);
create index cost_records_job_id_idx on cost_records (job_id) where job_id is not null;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    _owner, app, worker = rls.roles()
    me, here = rls.USER, rls.WORKSPACE
    rls.protect("events")
    op.execute(f"revoke update on events from {app}, {worker}")
    rls.protect("notifications")
    rls.protect("notification_reads", using=f"workspace_id = {here} and user_id = {me}", worker=False)
    # A sign-in happens before there is a workspace; such a line belongs to its user alone.
    rls.protect("audit_log", using=f"workspace_id = {here} or (workspace_id is null and user_id = {me})")
    rls.protect("cost_records")
    # What was done and what was charged is written once and stays.
    op.execute(f"revoke update, delete on audit_log, cost_records from {app}, {worker}")

    rls.lookup(
        "lookup_expired_events",
        "before timestamptz",
        "setof uuid",
        "select distinct workspace_id from events where created_at < before",
        to="worker",
    )
    rls.lookup(
        "lookup_expired_notifications",
        "before timestamptz",
        "setof uuid",
        "select distinct workspace_id from notifications where created_at < before",
        to="worker",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
