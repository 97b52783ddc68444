"""Models: the list, the trash, and one model with what was measured, its files and how to use it."""

import re
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, RequestContext, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.models import service
from brightrun.models.quality import Verdict
from brightrun.models.readme import readme
from brightrun.models.schemas import ModelOut, ModelUpdate
from brightrun.models.tables import ModelStatus
from brightrun.web import forms, views
from brightrun.web.http import Page
from brightrun.web.statuses import Tone
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/models", include_in_schema=False)

_READ = page_needs(Permission.MODELS_READ)
_WRITE = page_needs(Permission.MODELS_WRITE)
_PAGE_SIZE = 12
_TRASH_SIZE = 25

Text = Annotated[str, Query(max_length=255)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]

SORTS = [
    ("", "Newest first"),
    ("created_at", "Oldest first"),
    ("name", "Name, A to Z"),
    ("improvement", "Most improved"),
    ("-size", "Largest"),
]
VERDICTS: dict[Verdict, tuple[str, Tone, str]] = {
    Verdict.IMPROVED: ("Improved", "success", "trending-down"),
    Verdict.NOT_PROVEN: ("Not proven", "neutral", "circle-help"),
    Verdict.WORSE: ("Worse", "danger", "trending-up"),
    Verdict.NOT_MEASURED: ("Not measured", "neutral", "circle-dashed"),
}
"""What a page calls a verdict; its reason comes from `quality`."""
VERDICT_TITLES = {
    Verdict.IMPROVED: "Better on held-out conversations",
    Verdict.NOT_PROVEN: "Not proven",
    Verdict.WORSE: "Worse on held-out conversations",
    Verdict.NOT_MEASURED: "Not measured",
}
_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def _render(
    ctx: RequestContext, template: str, *, status: int = 200, block: str | None = None, **values: Any
) -> Response:
    permissions = ctx.principal.permissions
    return views.render(
        ctx.request,
        f"models/{template}.html",
        status=status,
        block=block,
        verdicts={verdict.value: look for verdict, look in VERDICTS.items()},
        verdict_options=[(verdict.value, look[0]) for verdict, look in VERDICTS.items()],
        can_write=Permission.MODELS_WRITE in permissions,
        can_train=Permission.JOBS_WRITE in permissions,
        **values,
    )


@router.get("", **_READ)
async def list_page(
    ctx: PageCtx, search: Text = "", verdict: Text = "", status: Text = "", sort: Text = "", page: PageNumber = 1
) -> Response:
    """Models, newest first. A filter that does not exist is told in the list's place."""
    values: dict[str, Any] = {"fault": None, "models": [], "total": 0}
    try:
        rows, values["total"] = await service.list_models(
            ctx.session,
            Page(page=page, limit=_PAGE_SIZE),
            sort=sort or "-created_at",
            status=_known(ModelStatus, status, "state"),
            verdict=_known(Verdict, verdict, "result"),
            search=search.strip() or None,
        )
        values["models"] = await service.views(ctx.session, rows)
    except InvalidInputError as error:
        values["fault"] = error.message
    return _render(
        ctx,
        "list",
        block="list" if views.is_fragment_request(ctx.request) else None,
        status=400 if values["fault"] else 200,
        search=search,
        verdict=verdict,
        chosen_status=status,
        sort=sort,
        sorts=SORTS,
        filtered=bool(search.strip() or verdict or status),
        page_number=page,
        limit=_PAGE_SIZE,
        **values,
    )


def _known(kind: Any, text: str, word: str) -> Any:
    if not text:
        return None
    if text not in set(kind):
        raise InvalidInputError(f"No model has the {word} {text!r}. There are: {', '.join(kind)}")
    return kind(text)


@router.get("/trash", **_READ)
async def trash_page(ctx: PageCtx, page: PageNumber = 1) -> Response:
    """Deleted models, until they are purged."""
    rows, total = await service.list_models(
        ctx.session, Page(page=page, limit=_TRASH_SIZE), sort="-updated_at", deleted=True
    )
    return _render(
        ctx,
        "trash",
        models=await service.views(ctx.session, rows),
        total=total,
        page_number=page,
        limit=_TRASH_SIZE,
        retention_days=ctx.settings.deleted_retention_days,
    )


# --- one model ------------------------------------------------------------------------------------------------------


@router.get("/{model_id}", **_READ)
async def model_page(ctx: PageCtx, model_id: UUID) -> Response:
    return await _model(ctx, model_id)


async def _model(ctx: RequestContext, model_id: UUID, *, status: int = 200, **values: Any) -> Response:
    row = await service.get(ctx.session, model_id)
    model = await service.view(ctx.session, row)
    links = {file.name: file.url for file in service.file_links(ctx.platform, row).files}
    return _render(
        ctx,
        "model",
        status=status,
        model=model,
        verdict_title=VERDICT_TITLES[Verdict(model.quality_metrics["verdict"])],
        links=links,
        snippets=_PYTHON.findall(readme(row)),
        change=relative_change(model),
        cost=Decimal(model.training_summary["cost_usd"]),
        retention_days=ctx.settings.deleted_retention_days,
        **({"errors": {}, "edited": {"name": model.name, "description": model.description or ""}} | values),
    )


def relative_change(model: ModelOut) -> float | None:
    """Held-out loss with the adapter against without, as a share: −0.12 is 12 % lower. None where not measured."""
    base = model.quality_metrics.get("heldout_loss_base")
    difference = model.quality_metrics.get("heldout_loss_difference")
    return difference / base if base and difference is not None else None


@router.post("/{model_id}/edit", **_WRITE)
async def edit(ctx: PageCtx, model_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("name", "description"))
    try:
        changes = forms.parse(ModelUpdate, {"name": values["name"], "description": values["description"] or None})
        await service.update(ctx.session, model_id, changes)
    except BrightRunError as error:
        if error.status == 404:
            raise
        return await _model(ctx, model_id, status=error.status, errors=forms.problems(error), edited=values)
    return toast_redirect(ctx.request, f"/models/{model_id}", Toast(title="Saved"))


@router.post("/{model_id}/archive", **_WRITE)
async def archive(ctx: PageCtx, model_id: UUID) -> Response:
    await service.update(ctx.session, model_id, ModelUpdate(status=ModelStatus.ARCHIVED))
    return toast_redirect(
        ctx.request,
        f"/models/{model_id}",
        Toast(title="Archived", description="Kept as it is.", undo_url=f"/models/{model_id}/unarchive"),
    )


@router.post("/{model_id}/unarchive", **_WRITE)
async def unarchive(ctx: PageCtx, model_id: UUID) -> Response:
    await service.update(ctx.session, model_id, ModelUpdate(status=ModelStatus.STORED))
    return toast_redirect(ctx.request, f"/models/{model_id}", Toast(title="Taken out of the archive"))


@router.post("/{model_id}/delete", **_WRITE)
async def delete(ctx: PageCtx, model_id: UUID) -> Response:
    try:
        model = await service.delete(ctx.session, model_id)
    except BrightRunError as error:
        if error.status == 404:
            raise
        toast = Toast(title="The model is not deleted", description=error.message, category="error")
        return toast_redirect(ctx.request, f"/models/{model_id}", toast)
    return toast_redirect(
        ctx.request,
        "/models",
        Toast(
            title=f"{model.name} is deleted",
            description=f"It can be restored for {ctx.settings.deleted_retention_days} days.",
            undo_url=f"/models/{model_id}/restore",
        ),
    )


@router.post("/{model_id}/restore", **_WRITE)
async def restore(ctx: PageCtx, model_id: UUID) -> Response:
    model = await service.restore(ctx.session, model_id)
    return toast_redirect(ctx.request, f"/models/{model_id}", Toast(title=f"{model.name} is back"))
