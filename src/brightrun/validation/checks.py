"""What a check is: the interface between the validator and everything that looks at what the records say.

Structure is checked by the readers of `brightrun.formats` while they read. What looks at whole records is written
against this interface, so that the validator alone knows about files, order, memory and the report.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol

from brightrun.formats.records import Record

Checks = Literal["structure", "default", "full"]
"""How much is looked for. structure: nothing that compares records. default: also exact duplicates and cheap content
checks. full: everything."""


class Remark(NamedTuple):
    """What to report about a record.

    code: of the catalogue, which has the severity. path: of the field within the record (`messages[2].content`), empty
    for the whole record. excerpt: what was found; secrets masked by the check. suggestion, fixable: where better than
    the catalogue's.
    """

    code: str
    path: str
    message: str
    excerpt: str = ""
    suggestion: str | None = None
    fixable: bool | None = None


class LateRemark(NamedTuple):
    """A remark that is made when the file is over. line, byte_offset, path: the record's own (`Record.path`)."""

    line: int
    byte_offset: int
    path: str
    remark: Remark


Reread = Callable[[int, int], Record | None]
"""(line, byte_offset) to the record that stands there, read again from the file; None where there is no longer one, or
where the object there holds several records. Its index and its conversation's id may be made up."""


class RecordCheck(Protocol):
    """Looks at one record at a time, in file order, and keeps next to nothing."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it adds to the report's `checks_run`."""
        ...

    def look(self, record: Record) -> Iterable[Remark]:
        """Remarks about this record. Called once a record, also for records with warnings; never for broken ones."""
        ...


class ComparingCheck(Protocol):
    """Compares records, and speaks when all were seen. Keeps at most 64 bytes a record in memory."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it adds to the report's `checks_run`."""
        ...

    def look(self, record: Record) -> None:
        """Take note of a record. Called in file order."""
        ...

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        """Remarks in any order; the validator puts them where they belong. reread: None where the file was a stream
        that cannot be read again. Called once, also after a cancelled run would have left temporary files: what a
        check opened it closes here or when it is collected."""
        ...


def percent(share: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(share * 100 + 1e-6)} %"
