"""Batches as they run, what failed, and the conversations that were written."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.generation import actions, reading, views
from brightrun.generation.page_parts import CLASS_WORDS, REVIEW_WORDS, STATUS_WORDS, render
from brightrun.generation.schemas import BatchResume, ConversationOut
from brightrun.generation.tables import BatchStatus, ConversationStatus, ItemStatus
from brightrun.llm.calls import Outcome
from brightrun.scaffolding import service as scaffolding
from brightrun.web import forms
from brightrun.web.http import Page
from brightrun.web.toasts import Toast, toast_redirect
from brightrun.web.views import is_fragment_request

router = APIRouter(include_in_schema=False)

_READ = page_needs(Permission.CONVERSATIONS_READ)
_WRITE = page_needs(Permission.CONVERSATIONS_WRITE)
_SIZE = 25
Text = Annotated[str, Query(max_length=255)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]


def _known(kind: Any, text: str) -> Any:
    return kind(text) if text in set(kind) else None


# --- batches --------------------------------------------------------------------------------------------------------


@router.get("/batches", **_READ)
async def batch_list(ctx: PageCtx, search: Text = "", status: Text = "", page: PageNumber = 1) -> Response:
    chosen = _known(BatchStatus, status)
    rows, total = await reading.batches(
        ctx.session,
        Page(page=page, limit=_SIZE),
        sort="-created_at",
        status=[chosen] if chosen else None,
        search=search.strip() or None,
    )
    return render(
        ctx,
        "batches",
        block="list" if is_fragment_request(ctx.request) else None,
        batches=[await views.batch_view(ctx.session, row) for row in rows],
        total=total,
        search=search,
        status_chosen=status,
        status_options=[(key, look[0]) for key, look in STATUS_WORDS.items()],
        filtered=bool(search.strip() or chosen),
        page_number=page,
        limit=_SIZE,
    )


@router.get("/batches/{batch_id}", **_READ)
async def batch_page(ctx: PageCtx, batch_id: UUID, part: Text = "", state: Text = "", page: PageNumber = 1) -> Response:
    """The batch as it is now; `part=now` is what its live region asks for again."""
    batch = await actions.get(ctx.session, batch_id)
    rows, total = await reading.items(
        ctx.session,
        batch_id,
        Page(page=page, limit=_SIZE),
        status=_known(ItemStatus, state),
        failure_class=_known(Outcome, state),
    )
    log, _ = await reading.log(
        ctx.session, batch_id, Page(page=1, limit=20), level=None, position=None, sort="-created_at"
    )
    return render(
        ctx,
        "batch",
        block="now" if part == "now" else None,
        batch=await views.batch_view(ctx.session, batch),
        asked=batch.stop_requested,
        items=rows,
        items_total=total,
        log=log,
        state=state,
        state_options=[
            ("", "All"), ("pending", "Waiting"), ("processing", "On its way"), ("written", "Written"),
            ("failed", "Failed"), *CLASS_WORDS.items(),
        ],
        page_number=page,
        limit=_SIZE,
    )  # fmt: skip


async def _act(ctx: PageCtx, path: str, work: Any, title: str) -> Response:
    try:
        await work
    except BrightRunError as error:
        if error.status == 404:
            raise
        toast = Toast(title="Nothing was changed", description=error.message, category="error")
        return toast_redirect(ctx.request, path, toast)
    return toast_redirect(ctx.request, path, Toast(title=title))


@router.post("/batches/{batch_id}/pause", **_WRITE)
async def pause(ctx: PageCtx, batch_id: UUID) -> Response:
    return await _act(
        ctx, f"/batches/{batch_id}", actions.pause(ctx.session, batch_id), "It pauses: what is on its way comes in"
    )


@router.post("/batches/{batch_id}/cancel", **_WRITE)
async def cancel(ctx: PageCtx, batch_id: UUID) -> Response:
    return await _act(
        ctx, f"/batches/{batch_id}", actions.cancel(ctx.session, batch_id), "It stops: what is on its way comes in"
    )


@router.post("/batches/{batch_id}/resume", **_WRITE)
async def resume(ctx: PageCtx, batch_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("max_cost_usd",))
    path = f"/batches/{batch_id}"
    try:
        body = forms.parse(BatchResume, {"max_cost_usd": values["max_cost_usd"] or None})
    except InvalidInputError as error:
        text = "; ".join(text for texts in forms.problems(error).values() for text in texts)
        return toast_redirect(
            ctx.request, path, Toast(title="The cap is no amount", description=text, category="error")
        )
    work = actions.resume(ctx.session, batch_id, max_cost=body.max_cost_usd)
    return await _act(ctx, path, work, "It goes on")


@router.post("/batches/{batch_id}/retry", **_WRITE)
async def retry(ctx: PageCtx, batch_id: UUID) -> Response:
    values = forms.text_fields(await ctx.request.form(), ("failure_class",))
    chosen = _known(Outcome, values["failure_class"])
    work = actions.retry(ctx.session, batch_id, [chosen] if chosen else None)
    return await _act(ctx, f"/batches/{batch_id}", work, "They are sent again")


# --- failed generations ---------------------------------------------------------------------------------------------


@router.get("/failed-generations", **_READ)
async def failure_list(
    ctx: PageCtx,
    search: Text = "",
    failure_class: Text = "",
    state: Text = "open",
    batch_id: UUID | None = None,
    page: PageNumber = 1,
) -> Response:
    chosen = _known(Outcome, failure_class)
    rows, total = await reading.failures(
        ctx.session,
        Page(page=page, limit=_SIZE),
        failure_class=[chosen] if chosen else None,
        batch_id=batch_id,
        stop_reason=None,
        resolved={"open": False, "resolved": True}.get(state),
        search=search.strip() or None,
    )
    return render(
        ctx,
        "failures",
        block="list" if is_fragment_request(ctx.request) else None,
        failures=[views.failure_view(row) for row in rows],
        total=total,
        search=search,
        failure_class=failure_class,
        state=state,
        batch_id=batch_id,
        filtered=bool(search.strip() or chosen or batch_id or state != "open"),
        page_number=page,
        limit=_SIZE,
    )


@router.get("/failed-generations/{failure_id}", **_READ)
async def failure_page(ctx: PageCtx, failure_id: UUID) -> Response:
    return render(ctx, "failure", failure=await views.failure_detail(ctx.session, failure_id))


@router.post("/failed-generations/{failure_id}/retry", **_WRITE)
async def retry_one(ctx: PageCtx, failure_id: UUID) -> Response:
    work = actions.retry_one(ctx.session, failure_id)
    return await _act(ctx, f"/failed-generations/{failure_id}", work, "It is sent again")


# --- conversations --------------------------------------------------------------------------------------------------


@router.get("/conversations", **_READ)
async def conversation_list(
    ctx: PageCtx,
    search: Text = "",
    pack: Text = "",
    persona: Text = "",
    arc: Text = "",
    topic: Text = "",
    tier: Text = "",
    status: Text = "",
    batch_id: UUID | None = None,
    sort: Text = "-created_at",
    page: PageNumber = 1,
) -> Response:
    chosen = _known(ConversationStatus, status)
    fault: str | None = None
    rows: list[Any] = []
    total = 0
    try:
        rows, total = await reading.conversations(
            ctx.session,
            Page(page=page, limit=_SIZE),
            sort=sort,
            status=[chosen] if chosen else None,
            batch_id=batch_id,
            pack=pack or None,
            persona=persona or None,
            arc=arc or None,
            topic=topic or None,
            tier=tier or None,
            search=search.strip() or None,
        )
    except InvalidInputError as error:
        fault = error.message
    packs = await scaffolding.packs(ctx.session, ctx.principal.workspace_id)
    return render(
        ctx,
        "conversations",
        block="list" if is_fragment_request(ctx.request) else None,
        status=400 if fault else 200,
        conversations=[ConversationOut.model_validate(row) for row in rows],
        total=total,
        fault=fault,
        search=search,
        pack=pack,
        tier=tier,
        status_chosen=status,
        keep={name: value for name, value in (("persona", persona), ("arc", arc), ("topic", topic)) if value}
        | ({"batch_id": str(batch_id)} if batch_id else {}),
        sort=sort,
        pack_options=[("", "All packs"), *((one.key, one.name) for one in packs)],
        status_options=[("", "All states"), *((key, look[0]) for key, look in REVIEW_WORDS.items())],
        filtered=bool(search.strip() or pack or persona or arc or topic or tier or chosen or batch_id),
        page_number=page,
        limit=_SIZE,
    )


@router.get("/conversations/{conversation_id}", **_READ)
async def conversation_page(ctx: PageCtx, conversation_id: UUID) -> Response:
    found = await reading.conversation(ctx.session, conversation_id)
    return render(ctx, "conversation", conversation=await views.conversation_detail(ctx.session, found))
