"""What tells two configurations apart: jobs or templates, every setting compared, differences first."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import InvalidInputError, NotFoundError
from brightrun.settings import Settings
from brightrun.training import repository as jobs
from brightrun.training.configuration import DEFAULT_BASE_MODEL
from brightrun.training.setting_words import LABELS
from brightrun.training.tables import TrainingJob
from brightrun.training.templates import service
from brightrun.training.templates.schemas import DifferenceOut, DiffOut, SideOut
from brightrun.training.templates.tables import ConfigurationTemplate

KINDS = ("job", "template")


@dataclass(frozen=True)
class Side:
    """What is compared of one. settings: field → (label, value), in the order in which people read them."""

    out: SideOut
    settings: dict[str, tuple[str, Any]]
    hyperparameters: dict[str, Any]
    overrides: frozenset[str]


def parse_side(text: str, field: str) -> tuple[str, UUID]:
    """`job:ID` or `template:ID`. Raises InvalidInputError that names `field`."""
    kind, _colon, raw = text.partition(":")
    try:
        if kind in KINDS:
            return kind, UUID(raw)
    except ValueError:
        pass
    raise InvalidInputError(
        f"{text!r} names neither a job nor a template",
        code="validation_error",
        details={field: ["job:ID or template:ID"]},
    )


async def diff(session: AsyncSession, settings: Settings, left: str, right: str) -> DiffOut:
    """Compare `left` with `right`, each `job:ID` or `template:ID`. NotFoundError: absent or foreign."""
    named = [parse_side(left, "left"), parse_side(right, "right")]
    first, second = [await _side(session, settings, kind, found) for kind, found in named]
    lines = [*_settings(first, second), *_hyperparameters(first, second)]
    lines.sort(key=lambda line: line.equal)  # stable: otherwise as people read them
    return DiffOut(left=first.out, right=second.out, different=sum(not line.equal for line in lines), lines=lines)


async def _side(session: AsyncSession, settings: Settings, kind: str, found: UUID) -> Side:
    if kind == "template":
        return _of_template(settings, await service.get(session, found))
    job = await jobs.find(session, found)
    if job is None:
        raise NotFoundError("There is no such training job")
    datasets = await jobs.datasets(session, {job.dataset_id})
    return side_of_job(job, datasets[job.dataset_id].name)


def side_of_job(job: TrainingJob, dataset: str) -> Side:
    return Side(
        out=SideOut(kind="job", id=job.id, name=job.name),
        settings={
            "dataset": ("Dataset", dataset),
            "preset_id": ("Goal", job.preset_id),
            "base_model": ("Base model", job.base_model),
            "gpu_config.type": ("Runs on", job.gpu_config["type"]),
            "gpu_config.count": ("Devices", job.gpu_config["count"]),
            "max_cost_usd": ("Limit, US dollars", None if job.max_cost is None else f"{job.max_cost:.2f}"),
        },
        hyperparameters=job.hyperparameters,
        overrides=frozenset(job.overrides),
    )


def _of_template(settings: Settings, template: ConfigurationTemplate) -> Side:
    values, _problem = service.effective(settings, template)
    gpu = template.gpu_config or {}
    return Side(
        out=SideOut(kind="template", id=template.id, name=template.name),
        settings={
            "preset_id": ("Goal", template.preset_id),
            "base_model": ("Base model", template.base_model or DEFAULT_BASE_MODEL),
            "gpu_config.type": ("Runs on", gpu.get("type")),
            "gpu_config.count": ("Devices", gpu.get("count", 1)),
            "max_cost_usd": ("Limit, US dollars", None if template.max_cost is None else f"{template.max_cost:.2f}"),
        },
        hyperparameters=values,
        overrides=frozenset(template.overrides),
    )


def _settings(left: Side, right: Side) -> list[DifferenceOut]:
    """A template has no dataset: then there is none to compare."""
    both = [name for name in left.settings if name in right.settings]
    return [
        DifferenceOut(
            field=name,
            label=left.settings[name][0],
            left=left.settings[name][1],
            right=right.settings[name][1],
            equal=left.settings[name][1] == right.settings[name][1],
        )
        for name in both
    ]


def _hyperparameters(left: Side, right: Side) -> list[DifferenceOut]:
    names = dict.fromkeys([*left.hyperparameters, *right.hyperparameters])
    return [
        DifferenceOut(
            field=f"hyperparameters.{name}",
            label=LABELS.get(name, name),
            left=left.hyperparameters.get(name),
            right=right.hyperparameters.get(name),
            equal=left.hyperparameters.get(name) == right.hyperparameters.get(name),
            set_left=name in left.overrides,
            set_right=name in right.overrides,
        )
        for name in names
    ]
