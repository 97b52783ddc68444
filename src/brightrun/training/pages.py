"""Training: one job, live. The list is in `list_pages`, how one is started in `new_pages`, what is done with it in
`action_pages`.
"""

from collections.abc import Collection, Iterable
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.formats.hyperparameters import SPECS
from brightrun.formats.methods import METHODS
from brightrun.training import repository, scheduling, service
from brightrun.training.labels import repository as labels
from brightrun.training.schemas import JobOut
from brightrun.training.setting_words import LABELS, plain_number, range_words, setting_text
from brightrun.training.tables import WAITING, JobPriority, JobStage, JobStatus
from brightrun.training.views import job_view
from brightrun.web import views
from brightrun.web.filters import duration
from brightrun.web.http import Page

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_LOG_LINES = 100
_WHOLE_LOG = "all"
_NOISE = ("log", "sample")
"""The trainer's own lines, and samples, which the page shows apart: only in the whole log."""

Text = Annotated[str, Query(max_length=255)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]

STAGE_WORDS = {
    JobStage.PREPROCESSING: "Preparing data",
    JobStage.MODEL_LOADING: "Loading the model",
    JobStage.TRAINING: "Training",
    JobStage.FINALIZING: "Measuring and storing",
}
LEVEL_WORDS = {"info": "Information", "warning": "Warnings", "error": "Errors"}
PRIORITY_WORDS = {
    JobPriority.HIGH: "High: before others",
    JobPriority.NORMAL: "Normal",
    JobPriority.LOW: "Low: after others",
}
ADJUSTED = ("micro_batch_tokens", "checkpoint_every_steps", "eval_every_steps", "divergence_loss")
"""Numbers that the page offers to change before a job goes on; the API takes all that are adjustable."""
REASON_WORDS = {
    "loss_not_decreasing": "The loss does not go down",
    "cost_too_high": "It costs too much",
    "wrong_configuration": "Wrong settings",
    "testing": "It was only a test",
    "better_results_elsewhere": "Another run is better",
    "client_request": "The client asked for it",
    "no_longer_needed": "No longer needed",
    "other": "Another reason",
}


# --- one job --------------------------------------------------------------------------------------------------------


@router.get("/{job_id}", **_READ)
async def job_page(
    ctx: PageCtx, job_id: UUID, part: Text = "", log: Text = "", level: Text = "", find: Text = ""
) -> Response:
    """part: `now` or `story`, the two live parts, for our script. log: `all`, or without the trainer's own lines.

    level, find: only lines of the log at this level, with these words.
    """
    block = part if part in {"now", "story"} and views.is_fragment_request(ctx.request) else None
    chosen = level if level in LEVEL_WORDS else ""
    return await _job(ctx, job_id, block=block, log=log, level=chosen, find=find.strip())


async def _job(
    ctx: RequestContext,
    job_id: UUID,
    *,
    block: str | None = None,
    log: str = "",
    level: str = "",
    find: str = "",
    status: int = 200,
    **values: Any,
) -> Response:
    job = await job_view(ctx.session, await service.get(ctx.session, job_id))
    await scheduling.add_places(ctx.session, ctx.settings, [job])
    told: dict[str, Any] = {"events": [], "events_total": 0, "samples": [], "notes": [], "known_tags": []}
    if block != "now":
        told["events"], told["events_total"] = await repository.list_events(
            ctx.session,
            job_id,
            page=Page(limit=_LOG_LINES),
            # Who looks for words wants to find them wherever they stand.
            without=() if log == _WHOLE_LOG or find else _NOISE,
            level=level or None,
            search=find or None,
        )
        first, _total = await repository.list_events(
            ctx.session, job_id, page=Page(limit=20), types=("sample",), newest_first=False
        )
        newest, _total = await repository.list_events(ctx.session, job_id, page=Page(limit=60), types=("sample",))
        told["samples"] = sample_pairs([*first, *reversed(newest)])
    permissions = ctx.principal.permissions
    if block is None:
        told["notes"] = await labels.notes_of(ctx.session, job_id)
        told["known_tags"] = [tag for tag, _jobs in await labels.counts(ctx.session)]
    return views.render(
        ctx.request,
        "training/job.html",
        status=status,
        block=block,
        job=job,
        stages=stage_items(job),
        progress_note=progress_note(job),
        took=sum(attempt.seconds for attempt in job.attempts or ()),
        spent=job.cost_usd if job.final_cost_usd is None else job.final_cost_usd,
        reasons=REASON_WORDS,
        adjustable=adjustable_settings(job),
        setting_labels=LABELS,
        methods=METHODS,
        setting_text=setting_text,
        checkpoint_choices=checkpoint_choices(job),
        log=log,
        level=level,
        find=find,
        levels=[("", "All levels"), *LEVEL_WORDS.items()],
        log_query=urlencode({key: text for key, text in {"log": log, "level": level, "find": find}.items() if text}),
        stage_words=STAGE_WORDS,
        can_write=Permission.JOBS_WRITE in permissions,
        me_id=ctx.principal.user_id,
        manages=Permission.WORKSPACE_MANAGE in permissions,
        priorities=priority_choices(job, permissions),
        sees_costs=Permission.COSTS_READ in permissions,
        **({"errors": {}, "cancel_open": False} | told | values),
    )


def priority_choices(job: JobOut, permissions: Collection[Permission]) -> list[tuple[str, str]]:
    """What the person who looks may set; nothing for a job that an admin put first, or that does not wait."""
    if job.status not in {*WAITING, JobStatus.PAUSED} or Permission.JOBS_WRITE not in permissions:
        return []
    manages = Permission.WORKSPACE_MANAGE in permissions
    if not manages and job.priority is JobPriority.HIGH:
        return []
    return [(key, word) for key, word in PRIORITY_WORDS.items() if manages or key != JobPriority.HIGH]


def adjustable_settings(job: JobOut) -> list[dict[str, str]]:
    """What may be changed before a job goes on, as it is now."""
    return [
        {
            "name": name,
            "label": LABELS[name],
            "value": plain_number(job.hyperparameters[name]),
            "help": f"{range_words(SPECS[name])} {SPECS[name].unit}",
        }
        for name in ADJUSTED
    ]


def checkpoint_choices(job: JobOut) -> list[tuple[str, str]]:
    """Where a job that stopped can go on from, the newest first."""
    steps = sorted(job.checkpoints, reverse=True)
    return [
        ("" if place == 0 else str(step), f"The newest checkpoint, step {step:,}" if place == 0 else f"Step {step:,}")
        for place, step in enumerate(steps)
    ]


def stage_items(job: JobOut) -> list[dict[str, Any]]:
    """The four stages as `ui.stages` shows them."""
    order = list(JobStage)
    done = job.status is JobStatus.COMPLETED
    current = len(order) if done else order.index(JobStage(job.stage)) if job.stage else -1
    if job.status is JobStatus.INITIALIZING and current < 0:
        current = 0
    items = []
    for place, stage in enumerate(order):
        state, note = "pending", ""
        if place < current:
            state = "done"
        elif place == current:
            match job.status:
                case JobStatus.RUNNING | JobStatus.INITIALIZING:
                    state = "active"
                    note = stage_note(job, stage)
                case JobStatus.FAILED:
                    state, note = "failed", "stopped here"
                case JobStatus.CANCELLED:
                    note = "cancelled here"
                case JobStatus.QUEUED | JobStatus.INTERRUPTED | JobStatus.PAUSED:
                    note = "goes on here"
        items.append({"label": STAGE_WORDS[stage], "state": state, "note": note})
    return items


def stage_note(job: JobOut, stage: JobStage) -> str:
    """What the stage that is at work shows below its name."""
    if stage is JobStage.TRAINING and job.total_steps:
        return f"step {job.step:,} of {job.total_steps:,}"
    if stage is JobStage.FINALIZING and job.trained_at is not None:
        return "storing the model"
    return "at work"


def progress_note(job: JobOut) -> str:
    """Epoch, step and time left, as far as they are known."""
    parts = []
    if job.total_steps and job.step:
        parts.append(f"Epoch {min(job.total_epochs, int(job.epoch) + 1)} of {job.total_epochs}")
        parts.append(f"step {job.step:,} of {job.total_steps:,}")
    if job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left, from the measured rate")
    elif job.status is JobStatus.RUNNING and job.trained_at is None:
        parts.append("time left is known after a few steps")
    return " · ".join(parts)


def sample_pairs(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Sample answers by question: what is expected, the answers before and after training, and those on the way.

    during: answers by step. An answer that was given again, after a resume, replaces the earlier one.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        details = event.details
        prompt = str(details.get("prompt", ""))
        pair = found.setdefault(
            (str(details.get("conversation_id", "")), prompt),
            {"prompt": prompt, "expected": details.get("expected"), "before": None, "after": None, "during": {}},
        )
        match details.get("when"):
            case "before":
                pair["before"] = details.get("answer", "")
            case "during":
                pair["during"][int(details.get("step") or 0)] = details.get("answer", "")
            case _:
                pair["after"] = details.get("answer", "")
    return list(found.values())
