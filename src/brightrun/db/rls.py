"""Row-level security in one place: what a migration says to make a table private to its workspace.

`nullif(…, '')`: after a transaction the setting is '' rather than NULL, and ''::uuid is an error.
"""

from alembic import op

WORKSPACE = "(select nullif(current_setting('app.workspace_id', true), '')::uuid)"
USER = "(select nullif(current_setting('app.user_id', true), '')::uuid)"


def roles() -> tuple[str, str, str]:
    """(owner, application, worker) as quoted identifiers, for the migration that is running."""
    attributes = op.get_context().config.attributes  # type: ignore[union-attr]
    quote = op.get_bind().dialect.identifier_preparer.quote
    owner, app, worker = attributes["roles"]
    return quote(owner), quote(app), quote(worker)


def protect(table: str, *, using: str | None = None, check: str | None = None, worker: bool = True) -> None:
    """Force row-level security on `table`, let the owner pass, let the others see what `using` allows.

    using: SQL condition; default: the row's workspace is the transaction's. check: the same for rows written.
    worker: whether background tasks may touch the table at all.
    """
    owner, app, worker_role = roles()
    using = using or f"workspace_id = {WORKSPACE}"
    check = check or using
    others = f"{app}, {worker_role}" if worker else app
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy {table}_owner on {table} to {owner} using (true) with check (true)")
    op.execute(f"create policy {table}_workspace on {table} to {others} using ({using}) with check ({check})")
    grant(table, worker=worker)


def grant(table: str, *, worker: bool = True, rights: str = "select, insert, update, delete") -> None:
    _owner, app, worker_role = roles()
    others = f"{app}, {worker_role}" if worker else app
    op.execute(f"grant {rights} on {table} to {others}")


def lookup(name: str, arguments: str, returns: str, body: str, *, to: str = "both") -> None:
    """A SECURITY DEFINER function: the only way to find something before its workspace is known. Returns ids only.

    to: "app", "worker" or "both": who may call it. Every one of them is listed in tests/db/test_security.py.
    """
    _owner, app, worker_role = roles()
    callers = {"app": app, "worker": worker_role, "both": f"{app}, {worker_role}"}[to]
    op.execute(
        f"create or replace function {name}({arguments}) returns {returns} language sql security definer "
        f"set search_path = pg_catalog, public, pg_temp as $body$ {body} $body$"
    )
    signature = f"{name}({', '.join(part.strip().split(' ', 1)[1] for part in arguments.split(',') if part.strip())})"
    op.execute(f"revoke all on function {signature} from public")
    op.execute(f"grant execute on function {signature} to {callers}")
