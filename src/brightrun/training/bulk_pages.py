"""What is done to the jobs that are ticked in the list, and the page that says what became of each."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse

from brightrun.accounts.context import PageCtx, page_needs
from brightrun.accounts.roles import Permission
from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.training import bulk, repository
from brightrun.training.bulk_schemas import BulkAction, BulkIn
from brightrun.training.labels import service as labels
from brightrun.training.labels.schemas import NoteIn, TagsIn
from brightrun.training.pages import REASON_WORDS
from brightrun.training.service import get
from brightrun.web import forms, views
from brightrun.web.toasts import Toast, toast_redirect

router = APIRouter(prefix="/training", include_in_schema=False)

_READ = page_needs(Permission.JOBS_READ)
_WRITE = page_needs(Permission.JOBS_WRITE)
WORDS = {
    BulkAction.CANCEL: "Cancel",
    BulkAction.PAUSE: "Pause",
    BulkAction.RESUME: "Resume",
    BulkAction.RETRY: "Retry",
    BulkAction.TAG: "Add tags",
    BulkAction.UNTAG: "Take tags away",
    BulkAction.PRIORITY: "Set the priority",
    BulkAction.ARCHIVE: "Archive",
    BulkAction.UNARCHIVE: "Bring back from the archive",
}
_UNDO = {BulkAction.ARCHIVE: BulkAction.UNARCHIVE, BulkAction.UNARCHIVE: BulkAction.ARCHIVE}
_ASKS = {BulkAction.CANCEL, BulkAction.RETRY, BulkAction.RESUME}
"""What stops work, or spends money, is confirmed first."""


def back_to(text: str) -> str:
    """Where the list was; never away from it."""
    return text if text == "/training" or text.startswith("/training?") else "/training"


def split_tags(text: str) -> list[str]:
    return [tag for tag in (part.strip() for part in text.split(",")) if tag]


@router.post("/bulk", **_WRITE)
async def act(ctx: PageCtx) -> Response:
    """`compare` leads to the comparison; what to `do` is done, after a question where they need one."""
    form = await ctx.request.form()
    values = forms.text_fields(
        form, ("action", "compare", "do", "tags", "priority", "back", "confirmed", "reason", "note", "stop")
    )
    ids = [value for value in form.getlist("ids") if isinstance(value, str)]
    if values["compare"]:
        return RedirectResponse("/training/compare?" + "&".join(f"ids={job_id}" for job_id in ids), status_code=303)
    back = back_to(values["back"])
    try:
        body = _body(values, ids)
        if body.action in _ASKS and values["confirmed"] != "yes":
            return await _ask(ctx, body, back)
        done = await bulk.run(ctx.session, ctx.settings, ctx.principal, body)
    except InvalidInputError as error:
        texts = [text for texts in forms.problems(error).values() for text in texts]
        toast = Toast(title="That did not work", description=" ".join(texts), category="error")
        return toast_redirect(ctx.request, back, toast)
    undo = _UNDO.get(body.action)
    return views.render(
        ctx.request, "training/bulk_done.html", bulk=done, word=WORDS[body.action], back=back,
        undo=undo, undo_word=WORDS[undo] if undo else "",
        undo_ids=[result.id for result in done.results if result.ok],
    )  # fmt: skip


def _body(values: dict[str, str], ids: list[str]) -> BulkIn:
    if not ids:
        raise InvalidInputError("Tick the jobs first")
    given: dict[str, Any] = {
        "ids": ids,
        "action": values["do"] or values["action"],
        "tags": split_tags(values["tags"]),
        "reason": values["reason"] or None,
        "note": values["note"] or None,
        "checkpoint": values["stop"] != "now",
        "priority": values["priority"] or None,
    }
    return forms.parse(BulkIn, given)


async def _ask(ctx: PageCtx, body: BulkIn, back: str) -> Response:
    return views.render(
        ctx.request,
        "training/bulk_ask.html",
        action=body.action,
        word=WORDS[body.action],
        jobs=await repository.named(ctx.session, body.ids),
        ids=body.ids,
        reasons=REASON_WORDS,
        back=back,
    )


# --- tags and notes of one job --------------------------------------------------------------------------------------


@router.post("/{job_id}/tags", **_WRITE)
async def change_tags(ctx: PageCtx, job_id: UUID) -> Response:
    """tags: to add, separated by commas. remove: one to take away."""
    form = await ctx.request.form()
    return await _label(ctx, job_id, form, "tags")


@router.post("/{job_id}/notes", **_WRITE)
async def change_notes(ctx: PageCtx, job_id: UUID) -> Response:
    """text: a new note. delete: the id of one to delete."""
    form = await ctx.request.form()
    return await _label(ctx, job_id, form, "notes")


async def _label(ctx: PageCtx, job_id: UUID, form: FormData, what: str) -> Response:
    values = forms.text_fields(form, ("tags", "remove", "text", "delete"))
    job = await get(ctx.session, job_id, lock=True)
    try:
        async with ctx.session.begin_nested():
            if what == "tags":
                add = forms.parse(TagsIn, {"tags": split_tags(values["tags"])}).tags
                await labels.change_tags(ctx.session, job, add=add, remove=split_tags(values["remove"]))
                toast = Toast(title="Tags changed")
            elif values["delete"]:
                await labels.delete_note(ctx.session, ctx.principal, job, UUID(values["delete"]))
                toast = Toast(title="Note deleted")
            else:
                await labels.add_note(
                    ctx.session, ctx.principal, job, forms.parse(NoteIn, {"text": values["text"]}).text
                )
                toast = Toast(title="Note added")
    except (BrightRunError, ValueError) as error:
        text = "There is no such note"
        if isinstance(error, BrightRunError):
            text = " ".join(text for texts in forms.problems(error).values() for text in texts)
        toast = Toast(title="That did not work", description=text, category="error")
    return toast_redirect(ctx.request, f"/training/{job_id}#labels", toast)
