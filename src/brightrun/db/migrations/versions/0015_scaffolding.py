"""Packs of scaffolding, and their personas, emotional arcs, topics and prompt templates, in versions."""

from alembic import op

from brightrun.db import rls

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLE = """
create table {t} (
  id uuid constraint {t}_pkey primary key,
  workspace_id uuid not null constraint {t}_workspace_id_fkey references workspaces (id) on delete cascade,
  thing_id uuid not null,
  pack_key text not null,
  key text not null constraint {t}_key_check check (key ~ '^[a-z0-9][a-z0-9_]{{0,63}}$'),
  version integer not null constraint {t}_version_check check (version > 0),
  is_current boolean not null,
  is_active boolean not null,
  name text not null,
  group_key text,
  tier text,
  arc_key text,
  content jsonb not null,
  note text,
  created_by uuid constraint {t}_created_by_fkey references users (id) on delete set null,
  created_at timestamptz not null default now(),
  constraint {t}_workspace_id_pack_key_key_version_key unique (workspace_id, pack_key, key, version),
  constraint {t}_workspace_id_thing_id_version_key unique (workspace_id, thing_id, version)
);
create unique index {t}_current_key on {t} (workspace_id, pack_key, key) where is_current;
create index {t}_created_by_idx on {t} (created_by) where created_by is not null
"""


def upgrade() -> None:
    for table in ("packs", "personas", "emotional_arcs", "training_topics", "prompt_templates"):
        for statement in TABLE.format(t=table).split(";\n"):
            op.execute(statement)
        rls.protect(table)


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
