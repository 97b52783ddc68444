"""What preference training tells at each step, and how busy the processor is."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table metrics_points add column reward_margin double precision,"
        " add column reward_accuracy double precision, add column cpu_percent double precision"
    )
