"""What the repair of one finding would do to its record, without repairing the file."""

from brightrun.formats.issues import Issue
from brightrun.formats.lines import MAX_RECORD_BYTES
from brightrun.formats.names import FormatId
from brightrun.formats.reading import Reading
from brightrun.formats.registry import FORMATS
from brightrun.validation.repair import MENDABLE, REMOVED, Choice
from brightrun.validation.repair_records import Change, mend, picture
from brightrun.validation.repair_reread import SameRecord

# Of the file as a whole: what it says, and what it will say.
_WHOLE = {
    "wrong_encoding": ("UTF-16 or UTF-32", "UTF-8"),
    "byte_order_mark": ("byte order mark (EF BB BF)", ""),
    "crlf_lines": ("CRLF at the ends of lines", "LF"),
}


def preview(issue: Issue, text: bytes | None, format: FormatId, prefix: str) -> Change | None:  # noqa: A002
    """The change that mending this finding alone makes; None where nothing can be done about it.

    text: of the record that the finding is in; None for the file as a whole, and for a record above the limit. prefix:
    the record's own part of `issue.path` (`[3]`, `conversations[0].training_pairs[1]`).
    """
    place = (issue.line, issue.path, issue.code)
    if issue.code not in MENDABLE or not issue.fixable:
        return None
    if issue.code in _WHOLE:
        return Change(*place, *_WHOLE[issue.code])
    if issue.code == "meta_count_mismatch":
        return Change(*place, issue.message, "the number that the file holds")
    if text is None:
        return None
    if issue.code in REMOVED:
        return Change(*place, picture(text.decode("utf-8", "replace")), "")
    pairs = "training_pairs[" in prefix
    blank = Reading(issue.line, issue.byte_offset, prefix, issue.line - 1)
    reread = SameRecord(blank, FORMATS[format], MAX_RECORD_BYTES, pairs=pairs)
    key = (issue.code, issue.line, "" if issue.code == "history_repeats_input" else issue.path)
    changes = mend(text, reread(text), Choice(codes=(), issues=[key]), reread).changes
    return changes[0] if changes else None
