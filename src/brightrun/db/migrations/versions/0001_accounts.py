"""Users, workspaces, members, invitations, sessions, one-time links, API tokens, rate limits."""

from alembic import op

from brightrun.db import rls

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create table users (
  id uuid constraint users_pkey primary key,
  email text not null,
  name text not null,
  password_hash text,
  oidc_subject text constraint users_oidc_subject_key unique,
  theme text not null default 'system',
  disabled_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create unique index users_email_key on users (lower(email));

create table workspaces (
  id uuid constraint workspaces_pkey primary key,
  name text not null,
  storage_quota_bytes bigint,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table workspace_members (
  workspace_id uuid not null constraint workspace_members_workspace_id_fkey references workspaces (id) on delete cascade,
  user_id uuid not null constraint workspace_members_user_id_fkey references users (id) on delete cascade,
  role text not null constraint workspace_members_role_check check (role in ('owner', 'admin', 'trainer', 'reviewer', 'viewer')),
  created_at timestamptz not null default now(),
  constraint workspace_members_pkey primary key (workspace_id, user_id)
);
create index workspace_members_user_id_idx on workspace_members (user_id);

create table invitations (
  id uuid constraint invitations_pkey primary key,
  workspace_id uuid not null constraint invitations_workspace_id_fkey references workspaces (id) on delete cascade,
  email text not null,
  role text not null constraint invitations_role_check check (role in ('owner', 'admin', 'trainer', 'reviewer', 'viewer')),
  token_hash bytea not null constraint invitations_token_hash_key unique,
  invited_by uuid constraint invitations_invited_by_fkey references users (id) on delete set null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  accepted_at timestamptz,
  revoked_at timestamptz
);
create index invitations_workspace_id_idx on invitations (workspace_id, created_at);

create table auth_sessions (
  id uuid constraint auth_sessions_pkey primary key,
  user_id uuid not null constraint auth_sessions_user_id_fkey references users (id) on delete cascade,
  current_workspace_id uuid constraint auth_sessions_current_workspace_id_fkey references workspaces (id) on delete set null,
  token_hash bytea not null constraint auth_sessions_token_hash_key unique,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  user_agent text,
  address text
);
create index auth_sessions_user_id_idx on auth_sessions (user_id);

create table signin_links (
  id uuid constraint signin_links_pkey primary key,
  user_id uuid not null constraint signin_links_user_id_fkey references users (id) on delete cascade,
  purpose text not null constraint signin_links_purpose_check check (purpose in ('sign_in', 'password_reset')),
  token_hash bytea not null constraint signin_links_token_hash_key unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz
);
create index signin_links_user_id_idx on signin_links (user_id);

create table api_tokens (
  id uuid constraint api_tokens_pkey primary key,
  workspace_id uuid not null constraint api_tokens_workspace_id_fkey references workspaces (id) on delete cascade,
  user_id uuid not null constraint api_tokens_user_id_fkey references users (id) on delete cascade,
  name text not null,
  origin text not null default 'person',
  hint text not null,
  token_hash bytea not null constraint api_tokens_token_hash_key unique,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
create index api_tokens_workspace_id_idx on api_tokens (workspace_id, user_id);

create table rate_limits (
  key text not null,
  window_start timestamptz not null,
  hits integer not null,
  constraint rate_limits_pkey primary key (key, window_start)
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    _owner, app, worker = rls.roles()
    op.execute(f"grant usage on schema public to {app}, {worker}")
    op.execute(f"grant select on alembic_version to {app}, {worker}")

    me, here = rls.USER, rls.WORKSPACE
    rls.protect(
        "users",
        using=f"id = {me} or exists (select 1 from workspace_members m"
        f" where m.user_id = users.id and m.workspace_id = {here})",
        check=f"id = {me}",
    )
    rls.protect(
        "workspaces",
        using=f"id = {here} or exists (select 1 from workspace_members m"
        f" where m.workspace_id = workspaces.id and m.user_id = {me})",
        check=f"id = {here}",
    )
    rls.protect("workspace_members", using=f"workspace_id = {here} or user_id = {me}", check=f"workspace_id = {here}")
    rls.protect("invitations", worker=False)
    rls.protect("auth_sessions", using=f"user_id = {me}", worker=False)
    rls.protect("signin_links", using=f"user_id = {me}", worker=False)
    rls.protect("api_tokens", worker=False)
    rls.grant("rate_limits")
    # The worker deletes what ended a month ago. It may read none of it, so it deletes without a condition, and the
    # policy is the condition.
    ended = {
        "auth_sessions": "least(expires_at, revoked_at)",
        "signin_links": "least(expires_at, used_at)",
        "api_tokens": "least(expires_at, revoked_at)",
        "invitations": "least(expires_at, revoked_at, accepted_at)",
    }
    for table, end in ended.items():
        op.execute(f"grant delete on {table} to {worker}")
        op.execute(
            f"create policy {table}_sweep on {table} for delete to {worker} using ({end} < now() - interval '30 days')"
        )

    rls.lookup(
        "lookup_session",
        "hash bytea",
        "table (session_id uuid, user_id uuid)",
        "select id, user_id from auth_sessions where token_hash = hash",
        to="app",
    )
    rls.lookup(
        "lookup_api_token",
        "hash bytea",
        "table (token_id uuid, user_id uuid, workspace_id uuid)",
        "select id, user_id, workspace_id from api_tokens where token_hash = hash",
        to="app",
    )
    rls.lookup(
        "lookup_user_by_email",
        "address text",
        "uuid",
        "select id from users where lower(email) = lower(address)",
        to="app",
    )
    rls.lookup(
        "lookup_user_by_oidc_subject",
        "subject text",
        "uuid",
        "select id from users where oidc_subject = subject",
        to="app",
    )
    rls.lookup(
        "lookup_signin_link",
        "hash bytea",
        "table (link_id uuid, user_id uuid)",
        "select id, user_id from signin_links where token_hash = hash",
        to="app",
    )
    rls.lookup(
        "lookup_invitation",
        "hash bytea",
        "table (invitation_id uuid, workspace_id uuid)",
        "select id, workspace_id from invitations where token_hash = hash",
        to="app",
    )
    # The first owner: who `brightrun up` signs in on a laptop.
    rls.lookup(
        "lookup_first_owner",
        "",
        "table (user_id uuid, workspace_id uuid)",
        "select m.user_id, m.workspace_id from workspace_members m join users u on u.id = m.user_id"
        " join workspaces w on w.id = m.workspace_id"
        " where m.role = 'owner' and u.disabled_at is null and w.deleted_at is null order by m.created_at, u.id limit 1",
        to="app",
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
