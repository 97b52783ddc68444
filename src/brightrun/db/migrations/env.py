"""Alembic's entry: synchronous, because psycopg serves both worlds and this runs before any event loop."""

from alembic import context
from sqlalchemy import create_engine, pool

from brightrun.db.base import Base

# The queue's own tables come from procrastinate; they are not ours to compare.
_FOREIGN = ("procrastinate_",)


def include_object(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    return not (kind in {"table", "index"} and (name or "").startswith(_FOREIGN))


def run() -> None:
    connection = context.config.attributes.get("connection")
    engine = None
    if connection is None:
        engine = create_engine(context.config.attributes["urls"].owner, poolclass=pool.NullPool)
        connection = engine.connect()
    try:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=include_object,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        if engine is not None:
            connection.close()
            engine.dispose()


run()
