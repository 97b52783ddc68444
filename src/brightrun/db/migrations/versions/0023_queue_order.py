"""The order of the queue, found in one pass: pairing slots with turns row by row took seconds for 10,000 jobs."""

from brightrun.db import rls

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# Waiting jobs in the order in which they start. {waiting}, {lost}, {limited}: which of them.
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
    select workspace_id, array_agg(level order by had_turn desc, level desc) as levels from waiting group by workspace_id
  ), turns as (
    select w.*, row_number() over (partition by w.workspace_id order by w.had_turn desc,
      w.level + floor(extract(epoch from now() - w.queued_at) / aging) desc, w.queued_at, w.id) as n
    from waiting w
  )
  select t.workspace_id, t.id from turns t
  join slots s on s.workspace_id = t.workspace_id
  join workspace w on w.workspace_id = t.workspace_id
  {limited}
  order by t.had_turn desc, s.levels[t.n] + w.aged desc, w.running + t.n, w.had, t.queued_at, t.id
  limit {most}
"""


def upgrade() -> None:
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
