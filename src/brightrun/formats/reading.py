"""One object of a file while it is read: where it stands, what was found wrong, what came out of it."""

from typing import Any

import msgspec
import orjson

from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue, make_issue
from brightrun.formats.records import Kind, Message, Record, Scaffold


class NullTarget(msgspec.Struct, frozen=True):
    """A pair without a target: it trains nothing, but it tells how many turns its conversation has."""

    conversation_id: str
    turns: int


class Reading:
    """Collects the records and issues of one object.

    line, byte_offset, path: as in `Record`. index: of the first record to come. conversation: of the full v4 file, the
    metadata of the conversation that the pair stands in. fallback_id: conversation id where the object has none.
    is_record: False for headers and for what is said about the file as a whole. broken: no JSON at all. meta: the
    content of a `_meta` header. object_id: the field and the value that should be unique in the file.
    """

    __slots__ = (
        "broken",
        "byte_offset",
        "conversation",
        "errors",
        "fallback_id",
        "history_repeats",
        "index",
        "is_record",
        "issues",
        "line",
        "meta",
        "null_targets",
        "object_id",
        "path",
        "records",
    )

    def __init__(self, line: int, byte_offset: int, path: str, index: int) -> None:
        self.line, self.byte_offset, self.path, self.index = line, byte_offset, path, index
        self.fallback_id = f"record-{index}"
        self.conversation: dict[str, Any] | None = None
        self.is_record = True
        self.broken = False
        self.meta: object = None
        self.issues: list[Issue] = []
        self.records: list[Record] = []
        self.null_targets: list[NullTarget] = []
        self.history_repeats = 0
        self.errors = 0
        self.object_id: tuple[str, str] | None = None

    def has_failed(self) -> bool:
        """Whether an error was reported, so that no record may come out."""
        return self.errors > 0

    def report(
        self,
        code: str,
        path: str,
        message: str,
        *,
        excerpt: str = "",
        suggestion: str | None = None,
        position: int = 0,
        fixable: bool | None = None,
    ) -> None:
        """Add an issue. path: within the object. position: byte within the object, for faults of the text itself."""
        if CODES[code].severity == "error":
            self.errors += 1
        self.issues.append(
            make_issue(
                code,
                message,
                line=self.line,
                byte_offset=self.byte_offset + position,
                path=join_path(self.path, path),
                excerpt=excerpt,
                suggestion=suggestion,
                fixable=fixable,
            )
        )

    def add(
        self,
        messages: list[Message],
        *,
        conversation_id: str | None = None,
        kind: Kind = "chat",
        path: str = "",
        chosen: list[Message] | None = None,
        rejected: list[Message] | None = None,
        label: bool | None = None,
        tools: list[dict[str, Any]] | None = None,
        scaffold: Scaffold | None = None,
    ) -> None:
        """Add a record. path: within the object, for objects that hold several."""
        self.records.append(
            Record(
                conversation_id=conversation_id or self.fallback_id,
                index=self.index + len(self.records),
                line=self.line,
                byte_offset=self.byte_offset,
                messages=messages,
                kind=kind,
                path=join_path(self.path, path),
                chosen=chosen,
                rejected=rejected,
                label=label,
                tools=tools,
                scaffold=scaffold,
            )
        )


def join_path(prefix: str, path: str) -> str:
    """`[3]` and `messages[0].content` to `[3].messages[0].content`."""
    if not prefix or not path:
        return prefix or path
    return prefix + path if path.startswith("[") else f"{prefix}.{path}"


def json_type(value: object) -> str:
    """What JSON calls the type of a value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


def shown(value: object) -> str:
    """A value for an excerpt. Deep nesting cannot hurt it."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value)[:400].decode("utf-8", errors="ignore")
    except TypeError:  # orjson says so for values nested too deeply
        return json_type(value)


def take_text(obj: dict[str, Any], key: str, reading: Reading, path: str = "", *, required: bool = True) -> str | None:
    """The text at `key`. Absent, null or of another type is reported (absent and null only when required) and None."""
    where = join_path(path, key)
    value = obj.get(key)
    if isinstance(value, str):
        return value
    if value is not None:
        reading.report(
            "wrong_type", where, f"`{where}` is {json_type(value)}; it must be a text.", excerpt=shown(value)
        )
    elif key in obj:
        if required:
            reading.report("null_value", where, f"`{where}` is null; it must be a text.")
    elif required:
        reading.report("missing_field", where, f"`{where}` is missing.")
    return None


def take_id(obj: dict[str, Any], *keys: str) -> str | None:
    """The first of `keys` that holds a usable id; a number counts as its digits."""
    for key in keys:
        value = obj.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def take_own_id(obj: dict[str, Any], reading: Reading) -> str | None:
    """What groups the record: `conversation_id`, which several may share, else its `id`, which none may."""
    own_id = take_id(obj, "id")
    if own_id is not None:
        reading.object_id = ("id", own_id)
    return take_id(obj, "conversation_id") or own_id
