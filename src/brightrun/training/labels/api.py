"""JSON routes of tags and notes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.training import service as jobs
from brightrun.training.labels import repository, service
from brightrun.training.labels.schemas import (
    NoteData,
    NoteIn,
    NoteOut,
    NotesData,
    TagCountsData,
    TagOut,
    TagsData,
    TagsIn,
)
from brightrun.web.http import Success, one

router = APIRouter(prefix="/api/jobs", tags=["training"])

_READ = needs(Permission.JOBS_READ)
_WRITE = needs(Permission.JOBS_WRITE)


@router.get("/tags", **_READ)
async def list_tags(ctx: Ctx, search: Annotated[str | None, Query(max_length=30)] = None) -> Success[TagCountsData]:
    """Tags that jobs of the workspace have, the most used first; at most 200."""
    found = await repository.counts(ctx.session, search=search.lower() if search else None)
    return one(TagCountsData(tags=[TagOut(tag=tag, jobs=jobs) for tag, jobs in found]))


@router.put("/{job_id}/tags", **_WRITE)
async def set_tags(ctx: Ctx, job_id: UUID, body: TagsIn) -> Success[TagsData]:
    """Give a job these tags and no others: at most 10, kept in lower case with hyphens for spaces."""
    job = await jobs.get(ctx.session, job_id, lock=True)
    return one(TagsData(tags=await service.set_tags(ctx.session, job, body.tags)))


@router.get("/{job_id}/notes", **_READ)
async def list_notes(ctx: Ctx, job_id: UUID) -> Success[NotesData]:
    """The newest first."""
    await jobs.get(ctx.session, job_id)
    notes = await repository.notes_of(ctx.session, job_id)
    return one(NotesData(notes=[NoteOut.model_validate(note) for note in notes]))


@router.post("/{job_id}/notes", status_code=201, **_WRITE)
async def add_note(ctx: Ctx, job_id: UUID, body: NoteIn) -> Success[NoteData]:
    """Plain text; who wrote it and when is kept with it. Found by the list's search."""
    job = await jobs.get(ctx.session, job_id)
    return one(
        NoteData(note=NoteOut.model_validate(await service.add_note(ctx.session, ctx.principal, job, body.text)))
    )


@router.delete("/{job_id}/notes/{note_id}", **_WRITE)
async def delete_note(ctx: Ctx, job_id: UUID, note_id: UUID) -> Success[NotesData]:
    """One's own; those of others are for owners and admins to delete. Answers those that are left."""
    job = await jobs.get(ctx.session, job_id)
    await service.delete_note(ctx.session, ctx.principal, job, note_id)
    return await list_notes(ctx, job_id)
