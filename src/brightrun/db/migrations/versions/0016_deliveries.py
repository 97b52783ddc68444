"""Notifications leave the house: preferences of members, webhooks, and the log of what was sent."""

from alembic import op

from brightrun.db import rls

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = """
create table notification_preferences (
  workspace_id uuid not null
    constraint notification_preferences_workspace_id_fkey references workspaces (id) on delete cascade,
  user_id uuid not null constraint notification_preferences_user_id_fkey references users (id) on delete cascade,
  muted text[] not null default '{}',
  email text[] not null default '{}',
  quiet_from time,
  quiet_to time,
  timezone text not null default 'UTC',
  urgent_at_once boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint notification_preferences_pkey primary key (workspace_id, user_id),
  constraint notification_preferences_quiet_hours_check check ((quiet_from is null) = (quiet_to is null))
);
create index notification_preferences_user_id_idx on notification_preferences (user_id);
create table webhooks (
  id uuid constraint webhooks_pkey primary key,
  workspace_id uuid not null constraint webhooks_workspace_id_fkey references workspaces (id) on delete cascade,
  url text not null constraint webhooks_url_length_check check (char_length(url) between 1 and 2000),
  types text[] not null constraint webhooks_types_check check (cardinality(types) > 0),
  secret_version integer not null default 1,
  failures integer not null default 0,
  inactive_reason text,
  created_by uuid constraint webhooks_created_by_fkey references users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index webhooks_workspace_id_idx on webhooks (workspace_id);
create index webhooks_created_by_idx on webhooks (created_by) where created_by is not null;
create table notification_deliveries (
  id uuid constraint notification_deliveries_pkey primary key,
  workspace_id uuid not null
    constraint notification_deliveries_workspace_id_fkey references workspaces (id) on delete cascade,
  notification_id uuid
    constraint notification_deliveries_notification_id_fkey references notifications (id) on delete cascade,
  channel text not null constraint notification_deliveries_channel_check check (channel in ('email', 'webhook')),
  user_id uuid constraint notification_deliveries_user_id_fkey references users (id) on delete cascade,
  webhook_id uuid constraint notification_deliveries_webhook_id_fkey references webhooks (id) on delete cascade,
  status text not null default 'pending'
    constraint notification_deliveries_status_check check (status in ('pending', 'sent', 'failed')),
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  response_status integer,
  error text,
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  constraint notification_deliveries_target_check check (
    (channel = 'email') = (user_id is not null) and (channel = 'webhook') = (webhook_id is not null)
  )
);
create unique index notification_deliveries_mail_key on notification_deliveries (notification_id, user_id)
  where user_id is not null;
create unique index notification_deliveries_webhook_key on notification_deliveries (notification_id, webhook_id)
  where webhook_id is not null;
create index notification_deliveries_workspace_id_idx on notification_deliveries (workspace_id, created_at);
create index notification_deliveries_webhook_id_idx on notification_deliveries (webhook_id, created_at);
create index notification_deliveries_user_id_idx on notification_deliveries (user_id, status);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in ("notification_preferences", "webhooks", "notification_deliveries"):
        rls.protect(table)


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
