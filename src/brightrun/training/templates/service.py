"""The rules of templates: save, change, delete, restore, and begin a job from one.

Functions take the transaction they work in; row-level security has narrowed it to one workspace.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.clock import utcnow
from brightrun.errors import BrightRunError, ConflictError, InvalidInputError, NotFoundError
from brightrun.formats import hyperparameters
from brightrun.formats.hyperparameters import HyperparameterError
from brightrun.ids import uuid7
from brightrun.settings import Settings
from brightrun.training import repository as jobs
from brightrun.training.configuration import configure
from brightrun.training.schemas import GpuConfigIn, JobCreate
from brightrun.training.tables import TrainingJob
from brightrun.training.templates import repository
from brightrun.training.templates.schemas import TemplateCreate, TemplateOut, TemplateUpdate
from brightrun.training.templates.tables import ConfigurationTemplate
from brightrun.web.http import Page, pick_sort


async def get(
    session: AsyncSession, template_id: UUID, *, deleted: bool = False, lock: bool = False
) -> ConfigurationTemplate:
    """deleted: also one that was deleted. NotFoundError: absent or foreign."""
    template = await repository.find(session, template_id, deleted=deleted, lock=lock)
    if template is None:
        raise NotFoundError("There is no such template")
    return template


async def list_templates(
    session: AsyncSession, page: Page, *, sort: str = "name", search: str | None = None
) -> tuple[Sequence[ConfigurationTemplate], int]:
    """One page, and how many there are in all."""
    return await repository.list_page(session, page=page, order=pick_sort(sort, repository.SORTS), search=search)


async def create(
    session: AsyncSession, settings: Settings, principal: Principal, body: TemplateCreate
) -> ConfigurationTemplate:
    """Save a configuration by name: that of a job, or the one given; it is checked as a job's would be.

    Raises InvalidInputError for values that are not allowed, or a job together with them; ConflictError when the name
    is taken.
    """
    if body.job_id is not None:
        given = sorted(body.model_fields_set - {"name", "description", "job_id"})
        if given:
            raise InvalidInputError(
                f"Give a job or the configuration itself, not both ({', '.join(given)})",
                code="validation_error",
                details={name: ["the job has one already"] for name in given},
            )
        job = await jobs.find(session, body.job_id)
        if job is None:
            raise NotFoundError("There is no such training job")
        values = _of_job(job)
    else:
        values = _of_body(settings, body)
    await _require_free_name(session, principal, body.name)
    template = ConfigurationTemplate(
        id=uuid7(),
        workspace_id=principal.workspace_id,
        created_by=principal.user_id,
        name=body.name,
        description=body.description or None,
        **values,
    )
    session.add(template)
    await session.flush()
    await audit(session, "template.created", "template", template.id, {"name": template.name})
    return await get(session, template.id)


def _of_job(job: TrainingJob) -> dict[str, Any]:
    return {
        "preset_id": job.preset_id,
        "overrides": job.overrides,
        "base_model": job.base_model,
        "gpu_config": {"type": job.gpu_config["type"], "count": job.gpu_config["count"]},
        "max_cost": job.max_cost,
        "source_job_id": job.id,
    }


def _of_body(settings: Settings, body: TemplateCreate) -> dict[str, Any]:
    configuration = configure(
        settings, preset_id=body.preset_id, overrides=dict(body.hyperparameters), gpu_config=body.gpu_config
    )
    return {
        "preset_id": configuration.preset_id,
        "overrides": configuration.overrides,
        "base_model": body.base_model,
        "gpu_config": body.gpu_config.model_dump() if body.gpu_config is not None else None,
        "max_cost": body.max_cost_usd,
    }


async def update(
    session: AsyncSession, principal: Principal, template_id: UUID, changes: TemplateUpdate
) -> ConfigurationTemplate:
    """Another name or description."""
    template = await get(session, template_id, lock=True)
    given = changes.model_dump(exclude_unset=True)
    if given.get("name", "") is None:
        del given["name"]  # it has one; null leaves it
    before = {name: getattr(template, name) for name in given}
    if given == before:
        return template
    if "name" in given and given["name"].lower() != template.name.lower():
        await _require_free_name(session, principal, given["name"])
    for name, value in given.items():
        setattr(template, name, value or None)
    await session.flush()
    await audit(session, "template.updated", "template", template.id, {"before": before, "after": given})
    return await get(session, template_id)


async def delete(session: AsyncSession, settings: Settings, template_id: UUID) -> ConfigurationTemplate:
    """It can be restored until it is purged; jobs that were started with it stay as they are.

    The same transaction purges what was deleted longer ago than the retention period.
    """
    template = await get(session, template_id, lock=True)
    template.deleted_at = utcnow()
    await session.flush()
    await audit(session, "template.deleted", "template", template.id, {"name": template.name})
    await repository.purge(session, utcnow() - timedelta(days=settings.deleted_retention_days))
    return await get(session, template_id, deleted=True)


async def restore(session: AsyncSession, principal: Principal, template_id: UUID) -> ConfigurationTemplate:
    """Harmless when it is not deleted. ConflictError: another one has its name meanwhile."""
    template = await get(session, template_id, deleted=True, lock=True)
    if template.deleted_at is not None:
        await _require_free_name(session, principal, template.name)
        template.deleted_at = None
        await session.flush()
        await audit(session, "template.restored", "template", template.id, {"name": template.name})
    return await get(session, template_id)


async def _require_free_name(session: AsyncSession, principal: Principal, name: str) -> None:
    """Holds the workspace's names until the transaction ends, so that two cannot take one at once."""
    key = f"template names {principal.workspace_id}"
    await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})
    if await repository.named(session, name) is not None:
        raise ConflictError(
            f"There is a template called {name!r} already. Choose another name, or delete that one first",
            code="template_name_taken",
            details={"name": ["another template has this name"]},
        )


async def views(
    session: AsyncSession, settings: Settings, templates: Sequence[ConfigurationTemplate]
) -> list[TemplateOut]:
    """Templates as clients see them."""
    used = await repository.usage(session, [template.id for template in templates])
    found = []
    for template in templates:
        count, completed, last = used.get(template.id, (0, 0, None))
        values, problem = effective(settings, template)
        found.append(
            TemplateOut(
                id=template.id,
                name=template.name,
                description=template.description,
                preset_id=template.preset_id,
                overrides=template.overrides,
                hyperparameters=values,
                base_model=template.base_model,
                gpu_config=template.gpu_config,
                max_cost_usd=template.max_cost,
                problem=problem,
                source_job_id=template.source_job_id,
                jobs=count,
                completed=completed,
                last_used_at=last,
                created_by=template.created_by,
                created_at=template.created_at,
                updated_at=template.updated_at,
            )
        )
    return found


def effective(settings: Settings, template: ConfigurationTemplate) -> tuple[dict[str, Any], str | None]:
    """(all hyperparameters before the rules of a dataset, why it cannot be used as it is).

    A template outlives a change of ranges and an edit of the GPU catalogue: then it is shown with what is wrong.
    """
    gpu = GpuConfigIn(**template.gpu_config) if template.gpu_config is not None else None
    try:
        configuration = configure(settings, preset_id=template.preset_id, overrides=template.overrides, gpu_config=gpu)
    except BrightRunError as error:
        problem = error.message
    else:
        return msgspec.to_builtins(configuration.values), configuration.gpu.unavailable
    try:
        return msgspec.to_builtins(hyperparameters.build(template.preset_id, template.overrides)), problem
    except HyperparameterError:
        return {**msgspec.to_builtins(hyperparameters.build(template.preset_id)), **template.overrides}, problem


async def applied(session: AsyncSession, body: JobCreate) -> JobCreate:
    """`body` with what it leaves out taken from its template; hyperparameters are joined, its own last.

    Raises NotFoundError when the template is gone.
    """
    if body.template_id is None:
        return body
    template = await get(session, body.template_id)
    given = body.model_fields_set
    values: dict[str, Any] = {"hyperparameters": template.overrides | body.hyperparameters}
    if "preset_id" not in given:
        values["preset_id"] = template.preset_id
    if "base_model" not in given and template.base_model is not None:
        values["base_model"] = template.base_model
    if "gpu_config" not in given and template.gpu_config is not None:
        values["gpu_config"] = GpuConfigIn(**template.gpu_config)
    if "max_cost_usd" not in given and template.max_cost is not None:
        values["max_cost_usd"] = template.max_cost
    return body.model_copy(update=values)
