"""The split of a whole file: what is on each side, and the two files."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from brightrun.formats.convert import ConversionError, Converted, convert
from brightrun.formats.lines import MAX_RECORD_BYTES
from brightrun.formats.names import FormatId
from brightrun.formats.reader import RecordReader, Source
from brightrun.formats.record_text import text_at
from brightrun.formats.records import Record
from brightrun.formats.split import NearLinks, Share, Stratum, heldout_ids, shares_of, stratum_of

FindLinks = Callable[[Iterable[Record]], NearLinks]


class SplitView(msgspec.Struct):
    """A split as people see it.

    train_, heldout_: conversations and records on each side. shares: by persona, emotional arc and topic. together:
    conversations that are on their side because an earlier one that says nearly the same is. heldout_ids: in the order
    of the file.
    """

    fraction: float
    seed: int
    train_conversations: int
    train_records: int
    heldout_conversations: int
    heldout_records: int
    shares: list[Share]
    together: int
    heldout_ids: list[str]


def view_split(
    source: Source,
    *,
    fraction: float,
    seed: int,
    format: str = "auto",  # noqa: A002 - the field's word
    near_links: FindLinks | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> SplitView:
    """How a file would be split; the same as the trainer's preparation splits it.

    near_links: as in `run_directory.prepare_run`. Raises UnknownFormatError, OSError.
    """
    strata: dict[str, Stratum] = {}
    counts: dict[str, int] = {}

    def records() -> Iterator[Record]:
        for reading in RecordReader(source, format, max_record_bytes=max_record_bytes).readings():
            for record in reading.records:
                strata.setdefault(record.conversation_id, stratum_of(record.scaffold))
                counts[record.conversation_id] = counts.get(record.conversation_id, 0) + 1
                yield record

    if near_links is not None and fraction > 0:
        near = near_links(records())
    else:
        near = {}
        for _ in records():
            pass
    held = heldout_ids(strata.items(), fraction=fraction, seed=seed, near=near)
    heldout_records = sum(counts[id_] for id_ in held)
    return SplitView(
        fraction=fraction,
        seed=seed,
        train_conversations=len(counts) - len(held),
        train_records=sum(counts.values()) - heldout_records,
        heldout_conversations=len(held),
        heldout_records=heldout_records,
        shares=shares_of(strata.items(), held),
        together=len(near),
        heldout_ids=held,
    )


def split_file(
    source: Path,
    train: Path,
    heldout: Path,
    scratch: Path,
    *,
    fraction: float,
    seed: int,
    format: str = "auto",  # noqa: A002
    near_links: FindLinks | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> tuple[SplitView, Converted]:
    """Write both sides as JSON Lines, every object as it was written; and what stands on neither.

    scratch: a file to be written on the way. A pair without a target goes where its conversation goes; a header, whose
    counts would be true of neither file, is left out and named. Raises ConversionError, UnknownFormatError, OSError.
    """
    reader = RecordReader(source, format, max_record_bytes=max_record_bytes)
    next(reader.readings(), None)
    found = reader.detection.format if reader.detection is not None else None
    if found is None:
        raise ConversionError("The file has no format that can be read.")
    to: FormatId = "brightrun_lora_v4" if found == "enriched_conversation" else found
    with ExitStack() as stack:
        stack.callback(scratch.unlink, missing_ok=True)
        done = convert(source, scratch, to, format=format, max_record_bytes=max_record_bytes)
        view = view_split(
            scratch,
            fraction=fraction,
            seed=seed,
            format=to,
            near_links=near_links,
            max_record_bytes=max_record_bytes,
        )
        held = frozenset(view.heldout_ids)
        raw = stack.enter_context(scratch.open("rb"))
        sides = [stack.enter_context(path.open("wb")) for path in (train, heldout)]
        for reading in RecordReader(scratch, to, max_record_bytes=max_record_bytes).readings():
            if reading.meta is not None:
                done.dropped["_meta"] = done.dropped.get("_meta", 0) + 1
            ids = [record.conversation_id for record in reading.records]
            ids += [pair.conversation_id for pair in reading.null_targets]
            text = text_at(raw, reading.byte_offset, "lines", max_record_bytes) if ids else None
            if text is not None:
                sides[ids[0] in held].write(text + b"\n")
    return view, done
