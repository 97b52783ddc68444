"""The ledger of requests to models; keys and terms of providers."""

from alembic import op

from brightrun.db import rls

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_WORKSPACE = (
    " workspace_id uuid not null constraint {table}_workspace_id_fkey references workspaces (id) on delete cascade,"
)


def upgrade() -> None:
    op.execute(
        "create table llm_requests ("
        " id uuid constraint llm_requests_pkey primary key,"
        + _WORKSPACE.format(table="llm_requests")
        + " work_key text not null,"
        " provider text not null constraint llm_requests_provider_check check (provider in ('anthropic', 'openai')),"
        " model text not null,"
        " via text not null constraint llm_requests_via_check check (via in ('sync', 'batch')),"
        " status text not null constraint llm_requests_status_check"
        " check (status in ('sent', 'answered', 'failed', 'unknown')),"
        " bound numeric(12,6) constraint llm_requests_bound_check check (bound >= 0),"
        " cost numeric(20,12) constraint llm_requests_cost_check check (cost >= 0),"
        " raw text, stop_reason text, input_tokens integer, output_tokens integer, cache_read_tokens integer,"
        " cache_write_tokens integer, error text, duration_ms integer, item_id uuid, batch_id uuid,"
        " recorded boolean not null default false,"
        " created_at timestamptz not null default now(), settled_at timestamptz,"
        " constraint llm_requests_answered_check check (status <> 'answered' or raw is not null))"
    )
    op.execute("create index llm_requests_workspace_id_work_key_idx on llm_requests (workspace_id, work_key)")
    op.execute("create index llm_requests_batch_id_idx on llm_requests (batch_id) where batch_id is not null")
    op.execute("create index llm_requests_workspace_id_created_at_idx on llm_requests (workspace_id, created_at)")
    op.execute(
        "create index llm_requests_unrecorded_idx on llm_requests (workspace_id) where not recorded and cost > 0"
    )
    rls.protect("llm_requests")
    rls.lookup(
        "lookup_unrecorded_requests",
        "",
        "setof uuid",
        "select distinct workspace_id from llm_requests where not recorded and cost > 0",
        to="worker",
    )

    op.execute(
        "create table provider_keys ("
        " id uuid constraint provider_keys_pkey primary key,"
        + _WORKSPACE.format(table="provider_keys")
        + " provider text not null constraint provider_keys_provider_check check (provider in ('anthropic', 'openai')),"
        " secret bytea,"
        " last_four text constraint provider_keys_last_four_check check (char_length(last_four) <= 4),"
        " base_url text,"
        " created_by uuid constraint provider_keys_created_by_fkey references users (id) on delete set null,"
        " created_at timestamptz not null default now(), updated_at timestamptz not null default now(),"
        " constraint provider_keys_workspace_id_provider_key unique (workspace_id, provider))"
    )
    op.execute("create index provider_keys_created_by_idx on provider_keys (created_by) where created_by is not null")
    rls.protect("provider_keys")

    op.execute(
        "create table provider_terms ("
        " id uuid constraint provider_terms_pkey primary key,"
        + _WORKSPACE.format(table="provider_terms")
        + " provider text not null constraint provider_terms_provider_check check (provider in ('anthropic', 'openai')),"
        " version text not null,"
        " accepted_by uuid constraint provider_terms_accepted_by_fkey references users (id) on delete set null,"
        " accepted_email text not null, accepted_at timestamptz not null default now(),"
        " constraint provider_terms_workspace_id_provider_version_key unique (workspace_id, provider, version))"
    )
    op.execute(
        "create index provider_terms_accepted_by_idx on provider_terms (accepted_by) where accepted_by is not null"
    )
    rls.protect("provider_terms")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
