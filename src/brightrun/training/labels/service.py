"""The rules of tags and notes. Functions take the transaction they work in."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.roles import Permission
from brightrun.accounts.signin import Principal
from brightrun.audit.service import record as audit
from brightrun.errors import ForbiddenError, InvalidInputError, NotFoundError
from brightrun.ids import uuid7
from brightrun.training.changes import announce
from brightrun.training.labels import repository
from brightrun.training.labels.schemas import MOST_TAGS
from brightrun.training.labels.tables import JobNote
from brightrun.training.tables import TrainingJob


async def change_tags(
    session: AsyncSession, job: TrainingJob, *, add: Collection[str] = (), remove: Collection[str] = ()
) -> list[str]:
    """The tags it has then. job: locked. Adding what is there, and removing what is not, changes nothing."""
    before = set((await repository.tags_of(session, [job.id])).get(job.id, []))
    after = (before - set(remove)) | set(add)
    if len(after) > MOST_TAGS:
        raise InvalidInputError(
            f"A job has at most {MOST_TAGS} tags; this one would have {len(after)}",
            code="validation_error",
            details={"tags": [f"at most {MOST_TAGS}"]},
        )
    await repository.add_tags(session, job, after - before)
    await repository.remove_tags(session, job, before - after)
    if after != before:
        await announce(session, job)
    return sorted(after)


async def set_tags(session: AsyncSession, job: TrainingJob, tags: Collection[str]) -> list[str]:
    before = (await repository.tags_of(session, [job.id])).get(job.id, [])
    return await change_tags(session, job, add=tags, remove=set(before) - set(tags))


async def add_note(session: AsyncSession, principal: Principal, job: TrainingJob, text: str) -> JobNote:
    note = JobNote(
        id=uuid7(),
        workspace_id=job.workspace_id,
        job_id=job.id,
        created_by=principal.user_id,
        author=principal.email,
        text=text,
    )
    session.add(note)
    await session.flush()
    await session.refresh(note)
    await announce(session, job)
    return note


async def delete_note(session: AsyncSession, principal: Principal, job: TrainingJob, note_id: UUID) -> None:
    """One's own; those of others are for owners and admins to delete. That it was deleted is in the audit log."""
    note = await repository.find_note(session, job.id, note_id)
    if note is None:
        raise NotFoundError("There is no such note")
    if note.created_by != principal.user_id and Permission.WORKSPACE_MANAGE not in principal.permissions:
        raise ForbiddenError("Only who wrote a note, or an owner or admin, may delete it", code="role")
    await session.delete(note)
    await audit(session, "job.note_deleted", "job", job.id, {"author": note.author})
    await announce(session, job)
