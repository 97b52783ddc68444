"""The queue of training jobs: priority, limits of machines and workspaces, fair shares, and when a job will start."""

from alembic import op

from brightrun.db import rls

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Waiting jobs in the order in which they start. {filters}: which of them.
# - What has had its turn (it was interrupted, resumed, or its machine was lost) comes first.
# - Then the priority. It is aged twice: within its workspace a job rises one step for each `aging` seconds that it has
#   waited; and a workspace rises one step for each `aging` seconds in which nothing of it was started. So neither a low
#   job behind normal ones nor a workspace behind other people's high ones waits for ever, and a long queue of old jobs
#   does not come before the first job of somebody else. (`slot`: what a workspace may claim with its nth job; `turn`:
#   which job that is.)
# - Then workspaces take turns: the fewer of its jobs run, and come before, the sooner; then the fewer seconds it has
#   had of the last day.
# - A workspace that runs as many as it may waits for one of its own to end.
ORDER = """
  with busy as (
    select r.workspace_id, count(*) as running from training_jobs r
    where r.status in ('initializing', 'running') and r.trained_at is null group by r.workspace_id
  ), waiting as (
    select j.id, j.workspace_id, j.queued_at, j.status <> 'queued' as had_turn, j.status in ('initializing', 'running') as lost,
      case j.priority when 'high' then 1 when 'low' then -1 else 0 end as level
    from training_jobs j
    where (j.status in ('queued', 'interrupted') and {waiting}) or {lost}
  ), workspace as (
    select w.id as workspace_id, nullif(coalesce(w.max_running_jobs, default_limit), 0) as most,
      coalesce((select running from busy b where b.workspace_id = w.id), 0) as running,
      coalesce((select sum(extract(epoch from coalesce(a.ended_at, now())
         - greatest(a.started_at, now() - interval '1 day'))) from training_attempts a
       where a.workspace_id = w.id and a.started_at > now() - interval '30 days'
         and coalesce(a.ended_at, now()) > now() - interval '1 day'), 0) as had,
      floor(extract(epoch from now() - greatest((select min(queued_at) from waiting f where f.workspace_id = w.id),
        coalesce((select max(a.started_at) from training_attempts a where a.workspace_id = w.id), '-infinity')))
        / aging) as aged
    from workspaces w where w.id in (select workspace_id from waiting)
  ), slots as (
    select workspace_id, level, row_number() over (partition by workspace_id order by had_turn desc, level desc) as n
    from waiting
  ), turns as (
    select w.*, row_number() over (partition by w.workspace_id order by w.had_turn desc,
      w.level + floor(extract(epoch from now() - w.queued_at) / aging) desc, w.queued_at, w.id) as n
    from waiting w
  )
  select t.workspace_id, t.id from turns t
  join slots s on s.workspace_id = t.workspace_id and s.n = t.n
  join workspace w on w.workspace_id = t.workspace_id
  {limited}
  order by t.had_turn desc, s.level + w.aged desc, w.running + t.n, w.had, t.queued_at, t.id
  limit {most}
"""


def upgrade() -> None:
    _owner, app, worker = rls.roles()
    op.execute(
        "alter table training_jobs add column priority text not null default 'normal'"
        " constraint training_jobs_priority_check check (priority in ('low', 'normal', 'high'))"
    )
    # What a workspace may have at work at once is for the operator to say, as what it may store is.
    op.execute(
        "alter table workspaces add column max_running_jobs integer"
        " constraint workspaces_max_running_jobs_check check (max_running_jobs >= 0)"
    )
    # The shares and the last start of a workspace, asked for twice a second.
    op.execute("drop index training_attempts_workspace_id_idx")
    op.execute(
        "create index training_attempts_workspace_id_started_at_idx on training_attempts (workspace_id, started_at)"
    )
    # What it takes to tell somebody when their job will start, without telling whose jobs come before it: numbers.
    op.execute(
        "create table training_machines (host text constraint training_machines_pkey primary key,"
        " places integer not null constraint training_machines_places_check check (places >= 0),"
        " busy jsonb not null default '[]', seen_at timestamptz not null default now())"
    )
    op.execute(
        "create table training_backlog (job_id uuid constraint training_backlog_pkey primary key"
        " constraint training_backlog_job_id_fkey references training_jobs (id) on delete cascade,"
        " seconds double precision not null, seconds_low double precision not null,"
        " seconds_high double precision not null)"
    )
    op.execute(
        "insert into training_backlog select id, s, coalesce((estimate #>> '{seconds,low}')::double precision, s),"
        " coalesce((estimate #>> '{seconds,high}')::double precision, s) from (select *,"
        " (estimate #>> '{seconds,value}')::double precision as s from training_jobs) j"
        " where s is not null and status not in ('completed', 'failed', 'cancelled')"
    )
    op.execute(f"grant select on training_machines to {app}, {worker}")
    op.execute(f"grant insert, update, delete on training_machines to {worker}")
    op.execute(f"grant select, insert on training_backlog to {app}, {worker}")
    op.execute("drop function lookup_startable_jobs(text, timestamptz)")
    lost = (
        "(j.status in ('initializing', 'running') and j.trained_at is null and j.host is distinct from machine"
        " and j.lease_expires_at < lost_before)"
    )
    # A run directory is on its machine's disk: others take a job only when that machine is away since `lost_before`.
    here = (
        "(j.next_attempt_at is null or j.next_attempt_at <= now())"
        " and (j.host is null or j.host = machine or j.updated_at < lost_before)"
    )
    rls.lookup(
        "lookup_startable_jobs",
        "machine text, lost_before timestamptz, default_limit integer, aging double precision",
        "table (workspace uuid, job uuid)",
        ORDER.format(
            waiting=here, lost=lost, most=20, limited="where t.lost or w.most is null or w.running + t.n <= w.most"
        ),
        to="worker",
    )
    rls.lookup(
        "lookup_queue",
        "default_limit integer, aging double precision",
        "table (workspace uuid, job uuid)",
        ORDER.format(waiting="true", lost="false", most=5000, limited=""),
    )


def downgrade() -> None:
    raise NotImplementedError("BrightRun migrates forwards; restore a backup to go back")
