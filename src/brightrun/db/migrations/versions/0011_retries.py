"""A job that was started instead of a failed one, with a change that makes it another run."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table training_jobs add column retry_of uuid constraint training_jobs_retry_of_fkey"
        " references training_jobs (id) on delete set null"
    )
    op.execute("create index training_jobs_retry_of_idx on training_jobs (retry_of) where retry_of is not null")


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
