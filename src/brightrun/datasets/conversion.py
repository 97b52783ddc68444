"""A dataset in another format: what would be lost, and the file. Small files only: a large one is for a terminal."""

import asyncio
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.issues import validated
from brightrun.datasets.service import get, removed
from brightrun.errors import ConflictError, InvalidInputError
from brightrun.formats.convert import READ_ONLY, Converted, convert
from brightrun.formats.names import FORMAT_IDS, FormatId
from brightrun.ids import uuid7
from brightrun.platform import Platform
from brightrun.storage import Bucket

MOST_BYTES = 32 << 20
"""Of a file that is converted while somebody waits."""
WRITABLE: tuple[FormatId, ...] = tuple(name for name in FORMAT_IDS if name not in READ_ONLY)
_SHOWN = 100


class DroppedOut(BaseModel):
    path: str
    n: int


class UnwrittenOut(BaseModel):
    line: int
    reason: str


class ConversionOut(BaseModel):
    """What a conversion writes, and what it loses: fields with their number, and the first 100 records."""

    format: str | None
    to: str
    written: int
    dropped_fields: list[DroppedOut]
    unwritten: list[UnwrittenOut]
    unwritten_total: int

    @property
    def lossless(self) -> bool:
        return not self.dropped_fields and not self.unwritten_total


async def converted(
    session: AsyncSession, platform: Platform, dataset_id: UUID, to: str
) -> tuple[ConversionOut, Path, str]:
    """What is lost, the converted file (the caller removes it), and what to call it.

    Raises ConflictError for a dataset that was not validated, whose file is gone, or is too large to wait for.
    """
    if to not in WRITABLE:
        message = f"one of: {', '.join(WRITABLE)}"
        raise InvalidInputError(f"to: {message}", code="validation_error", details={"to": [message]})
    dataset = await get(session, dataset_id)
    validated(dataset)
    if dataset.object_deleted_at is not None:
        raise removed(dataset)
    if dataset.format is None:
        raise ConflictError("The file's format is not known, so it cannot be converted.", code="no_records")
    if dataset.file_size > MOST_BYTES:
        raise ConflictError(
            f"The file has {dataset.file_size:,} bytes; up to {MOST_BYTES:,} are converted here. Download it, and use "
            "`brightrun convert` in a terminal.",
            code="too_large_to_convert",
        )
    scratch = platform.settings.data / "scratch"
    source, target = (scratch / f"issues-convert-{uuid7()}{end}" for end in ("", ".jsonl"))  # swept by this name
    bucket, path, declared = Bucket(dataset.storage_bucket), dataset.storage_path, dataset.declared_format

    def work() -> Converted:
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            platform.store.download_to(bucket, path, source)
            return convert(source, target, to, format=declared or "auto")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            source.unlink(missing_ok=True)

    done = await asyncio.to_thread(work)
    answer = ConversionOut(
        format=done.format,
        to=to,
        written=done.written,
        dropped_fields=[DroppedOut(path=field, n=n) for field, n in sorted(done.dropped.items())],
        unwritten=[UnwrittenOut(line=one.line, reason=one.reason) for one in done.unwritten[:_SHOWN]],
        unwritten_total=done.unwritten_total,
    )
    return answer, target, f"{Path(dataset.file_name).stem}.{to}.jsonl"


async def loss_of(session: AsyncSession, platform: Platform, dataset_id: UUID, to: str) -> ConversionOut:
    """What converting would lose; nothing is kept."""
    answer, file, _name = await converted(session, platform, dataset_id, to)
    await asyncio.to_thread(file.unlink)
    return answer
