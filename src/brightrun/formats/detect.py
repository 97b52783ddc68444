"""Which format a file is written in, told from its content, with the reason in words."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, Literal, NamedTuple

from brightrun.formats.decode import decode, locate_fault
from brightrun.formats.filekinds import binary_kind, other_encoding, text_kind
from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.json_stream import JsonWalker, StructureError, close_truncated
from brightrun.formats.lines import UTF8_BOM, ByteSource
from brightrun.formats.mendable import json_meant
from brightrun.formats.names import FormatId, format_id
from brightrun.formats.reading import json_type
from brightrun.formats.registry import FORMATS, Format, classify

HEAD_BYTES = 256 << 10

Layout = Literal["lines", "array", "document", "v4_full", "enriched_file"]
"""lines: JSONL. array: one JSON array of records. document: one record as the whole file. v4_full, enriched_file: one
document that holds conversations or pairs."""

_CONTINUES = (b"{", b"[", b",")


class Detection(NamedTuple):
    """format: None when nothing can be read. reason: one sentence for people. issues: about the file as a whole."""

    format: FormatId | None
    layout: Layout
    reason: str
    bom: bool = False
    issues: tuple[Issue, ...] = ()


class _Found(NamedTuple):
    format: FormatId
    layout: Layout
    reason: str


def detect(head: bytes, *, complete: bool, declared: str = "auto") -> Detection:
    """The format of a file that begins with `head` (at best HEAD_BYTES of it; `complete` when that is all).

    A declared format wins where the content has its fields or those of no format; otherwise that is an issue, and the
    content wins. Raises UnknownFormatError for a declared name that is none.
    """
    wanted = format_id(declared)
    bom = head.startswith(UTF8_BOM)
    text = head.removeprefix(UTF8_BOM)
    if refusal := _refuse(text, complete=complete):
        return Detection(None, "lines", refusal.message, bom, (refusal,))
    found = _find(text, complete=complete)
    layout = found.layout if found else _layout_of(text)
    if wanted == "auto":
        if found is None:
            issue = _unknown(text)
            return Detection(None, layout, issue.message, bom, (issue,))
        return Detection(found.format, layout, found.reason, bom)
    if found is None:
        return Detection(wanted, layout, "declared; the content has the fields of no format", bom)
    if found.format == wanted or _also_fits(text, wanted, layout):
        return Detection(wanted, layout, f"declared, and {found.reason}", bom)
    message = f"The file was declared as {wanted}, but it is {found.format}: {found.reason}."
    return Detection(found.format, layout, found.reason, bom, (make_issue("format_mismatch", message),))


def _refuse(text: bytes, *, complete: bool) -> Issue | None:
    if not text.strip():
        if complete:
            what = "The file has no bytes." if not text else "The file holds only white space."
            return make_issue("empty_file", what)
        return None
    if complete and text.strip() == b"[]":
        return make_issue("no_records", "The file is an empty list.")
    if (encoding := other_encoding(text)) is not None:
        return make_issue("wrong_encoding", f"The file is written in {encoding}, not in UTF-8.")
    if (kind := binary_kind(text)) is not None:
        return make_issue("binary_file", f"This is not a text file: it looks like {kind}.")
    return None


def _find(text: bytes, *, complete: bool) -> _Found | None:
    body = text.lstrip()
    lines = _whole_lines(text, complete=complete)
    if body.startswith(b"[") and not _is_list_line(lines):
        if (most := _most(enumerate(_elements(body), start=1))) is None:
            return None
        where = "the records have" if most.number == 1 else f"record {most.number} has"
        return _Found(most.format.id, "array", f"a JSON array, and {where} {most.format.looks_like}{most.share}")
    if not lines or (lines[0][1].endswith(_CONTINUES) and _object(lines[0][1].rstrip(b",")) is None):
        # No whole line at hand, or a first line that cannot be a whole record: one document over several lines.
        beginning = _object(close_truncated(body)) or _object(_before_fault(body))
        if beginning is not None and (found := _document(beginning, one_line=not lines)) is not None:
            return found
    only = lines[0][1] if len(lines) == 1 and complete else None
    if only is not None and (obj := _glimpse(only)) is not None:
        return _document(obj, one_line=True)
    return _by_lines(lines)


def _by_lines(lines: list[tuple[int, bytes]]) -> _Found | None:
    return _by_objects((number, _object(line)) for number, line in lines) or _by_objects(
        # Nothing but broken lines: what stands before the fault still tells the format.
        (number, _glimpse(line))
        for number, line in lines
    )


class _Most(NamedTuple):
    """The format that most of the first records have. number: of the first such record or line. share: said in words
    where others have another."""

    format: Format
    number: int
    share: str


_JUDGED = 50


def _most(objects: Iterable[tuple[int, dict[str, Any] | None]]) -> _Most | None:
    """One odd record at the beginning does not decide over all others."""
    seen: dict[FormatId, list[int]] = {}
    judged = 0
    for number, obj in objects:
        entry = classify(obj) if obj is not None and "_meta" not in obj else None
        if entry is not None:
            seen.setdefault(entry.id, []).append(number)
            judged += 1
        if judged == _JUDGED:
            break
    if not seen:
        return None
    winner = max(seen, key=lambda name: len(seen[name]))  # of equally many the one that was met first
    share = f", as have {len(seen[winner])} of the first {judged} records" if len(seen) > 1 else ""
    return _Most(FORMATS[winner], seen[winner][0], share)


def _by_objects(objects: Iterable[tuple[int, dict[str, Any] | None]]) -> _Found | None:
    header, identified = False, None
    looked_at: list[tuple[int, dict[str, Any] | None]] = []
    for number, obj in objects:
        looked_at.append((number, obj))
        if obj is None:
            continue
        header = header or "_meta" in obj
        if identified is None and "conversation_id" in obj:
            identified = number
        if len(looked_at) == _JUDGED:
            break
    if (most := _most(looked_at)) is not None:
        after = " after a `_meta` line" if header and most.number > 1 else ""
        return _Found(
            most.format.id,
            "lines",
            f"JSON Lines, and line {most.number}{after} has {most.format.looks_like}{most.share}",
        )
    if header:
        return _Found("brightrun_lora_v4", "lines", "JSON Lines with a `_meta` line")
    if identified is not None:
        return _Found("brightrun_lora_v3", "lines", f"JSON Lines, and line {identified} has `conversation_id`")
    return None


def _document(obj: dict[str, Any], *, one_line: bool) -> _Found | None:
    conversations = obj.get("conversations")
    first = conversations[0] if isinstance(conversations, list) and conversations else None
    holds_pairs = isinstance(first, dict) and ("training_pairs" in first or "conversation_metadata" in first)
    if "training_file_metadata" in obj or holds_pairs:
        sign = "`training_file_metadata`" if "training_file_metadata" in obj else "`conversations[].training_pairs`"
        return _Found("brightrun_lora_v4", "v4_full", f"one JSON document with {sign}")
    # Keys come in any order: the pairs of an enriched file may lie beyond what is at hand.
    if FORMATS["enriched_conversation"].marks(obj) or "dataset_metadata" in obj:
        return _Found("enriched_conversation", "enriched_file", "one JSON document with `dataset_metadata`")
    if (entry := classify(obj)) is None:
        return _by_objects([(1, obj)]) if one_line else None
    layout: Layout = "lines" if one_line else "document"
    return _Found(entry.id, layout, f"{'line 1' if one_line else 'the file is one record that'} has {entry.looks_like}")


def _layout_of(text: bytes) -> Layout:
    return "array" if text.lstrip().startswith(b"[") else "lines"


def _whole_lines(text: bytes, *, complete: bool) -> list[tuple[int, bytes]]:
    """Numbered lines that are not blank; the last one only when it is known to be whole."""
    pieces = text.split(b"\n")
    if not complete:
        pieces.pop()
    return [(number, piece.strip()) for number, piece in enumerate(pieces, start=1) if piece.strip()]


def _is_list_line(lines: list[tuple[int, bytes]]) -> bool:
    """JSON Lines that happen to begin with a line `[…]`: a fault of that line, not an array."""
    if len(lines) < 2 or not lines[1][1].startswith(b"{"):
        return False
    return isinstance(_decoded(lines[0][1]), list)


def _elements(body: bytes) -> Iterator[dict[str, Any]]:
    """The records of an array as far as it is at hand, broken ones up to their fault."""
    walker = JsonWalker(ByteSource(BytesIO(body)), lambda path: not path, resumes=_is_record)
    try:
        for value in walker:
            data = value.data or b""
            obj = _object(data)
            if obj is None and _decoded(data) is None:
                walker.resume(value, locate_fault(data).position if data.strip() != b"null" else len(data))
            if (obj := obj or _object(_before_fault(data))) is not None:
                yield obj
    except StructureError:
        return  # the head ends here, or the array is damaged: the reader says where


def _is_record(value: object) -> int | None:
    return 0 if isinstance(value, dict) and classify(value) is not None else None


def _decoded(text: bytes | None) -> Any:
    try:
        return decode(text) if text else None
    except ValueError:
        return None


def _before_fault(text: bytes) -> bytes | None:
    """The beginning of a broken JSON text, closed, up to where it breaks."""
    try:
        return close_truncated(text[: locate_fault(text).position])
    except ValueError:  # it is whole
        return text


def _glimpse(text: bytes) -> dict[str, Any] | None:
    return _object(text) or _object(json_meant(text)) or _object(_before_fault(text))


def _object(text: bytes | None) -> dict[str, Any] | None:
    value = _decoded(text) if text and text.startswith(b"{") else None
    return value if isinstance(value, dict) else None


def _also_fits(text: bytes, wanted: FormatId, layout: Layout) -> bool:
    """Whether the first record has the declared format's fields, too (messages with a label read as messages)."""
    if layout in ("v4_full", "enriched_file"):
        return False
    body = text.lstrip()
    first = next(_elements(body), None) if layout == "array" else None
    if first is None:
        candidates = (_object(line) for _, line in _whole_lines(text, complete=True))
        first = next((obj for obj in candidates if obj is not None and "_meta" not in obj), None)
        first = first or _object(close_truncated(body))
    return first is not None and FORMATS[wanted].marks(first)


def _unknown(text: bytes) -> Issue:
    body = text.lstrip()
    first = next((obj for _, line in _whole_lines(text, complete=True) if (obj := _object(line))), None)
    first = first or next(_elements(body), None) or _object(close_truncated(body))
    if first is not None:
        fields = ", ".join(f"`{key}`" for key in list(first)[:8]) or "none"
        message = f"The records have the fields of no known format; found {fields}."
        return make_issue("unknown_format", message, suggestion=_hint(first))
    if body[:1] in (b"{", b"["):
        return make_issue("unknown_format", "The file begins like JSON, but no record of a known format could be read.")
    first_line = _decoded(body.partition(b"\n")[0])
    if first_line is not None or body.startswith(b"null"):
        return make_issue("unknown_format", f"The first line is {json_type(first_line)}; a record is an object: {{…}}.")
    kind, advice = text_kind(text)
    return make_issue("unknown_format", f"The file is not JSON: it looks like {kind}.", suggestion=advice)


def _hint(obj: dict[str, Any]) -> str | None:
    """Better advice for shapes that people really upload."""
    if "role" in obj and "content" in obj:
        return 'Each line is a single message. Put all messages of a conversation into one record: {"messages": […]}.'
    for key, value in obj.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and classify(value[0]):
            return f"The records stand inside `{key}`. Save that list as the file."
    if "text" in obj:
        return 'Plain `text` says nothing about who speaks. Use {"prompt": …, "completion": …} or {"messages": […]}.'
    if {"question", "answer"} <= obj.keys() or {"input", "output"} <= obj.keys():
        return "Rename the fields to `prompt` and `completion`."
    return None
