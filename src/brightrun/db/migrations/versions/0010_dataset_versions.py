"""Versions of a dataset: each made by mending another, with what was asked for and what was changed."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
alter table datasets
  add column parent_id uuid constraint datasets_parent_id_fkey references datasets (id) on delete set null,
  add column root_id uuid,
  add column version integer not null default 1,
  add column repair jsonb,
  add column repaired_at timestamptz,
  add column repair_counts jsonb,
  add column repair_log_path text,
  add column idempotency_key text,
  add column request_hash text,
  add constraint datasets_version_check check (
    version > 0 and (version = 1) = (root_id is null) and (version = 1) = (repair is null)
  ),
  add constraint datasets_idempotency_check check ((idempotency_key is null) = (request_hash is null))
""",
    "create unique index datasets_version_key on datasets (workspace_id, root_id, version)",
    "create unique index datasets_idempotency_key_key on datasets (workspace_id, idempotency_key)",
    "create index datasets_parent_id_idx on datasets (parent_id) where parent_id is not null",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
