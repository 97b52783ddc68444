"""One object of a file while it is read: where it stands, what was found wrong, what came out of it."""

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from brightrun.formats.codes import CODES
from brightrun.formats.issues import Issue, make_issue, only_counted
from brightrun.formats.records import Kind, Message, Record, Scaffold

_NONE: frozenset[str] = frozenset()


class NullTarget(msgspec.Struct, frozen=True):
    """A pair without a target: it trains nothing, but it tells how many turns its conversation has."""

    conversation_id: str
    turns: int


class Reading:
    """Collects the records and issues of one object.

    line, byte_offset, path: as in `Record`. index: of the first record to come. conversation: of the full v4 file, the
    metadata of the conversation that the pair stands in. fallback_id: conversation id where the object has none.
    is_record: False for headers and for what is said about the file as a whole. fault: the byte of the object at which
    decoding stopped; None for JSON. meta: the content of a `_meta` header. object_id: the field and the value that
    should be unique in the file. unheard: severities whose issues are only counted. value: the decoded object, for who
    looks for the field behind a message; None where it is no JSON.
    """

    __slots__ = (
        "byte_offset",
        "conversation",
        "errors",
        "fallback_id",
        "fault",
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
        "unheard",
        "value",
    )

    def __init__(self, line: int, byte_offset: int, path: str, index: int) -> None:
        self.line, self.byte_offset, self.path, self.index = line, byte_offset, path, index
        self.fallback_id = f"record-{index}"
        self.conversation: dict[str, Any] | None = None
        self.is_record = True
        self.fault: int | None = None
        self.meta: object = None
        self.issues: list[Issue] = []
        self.records: list[Record] = []
        self.null_targets: list[NullTarget] = []
        self.history_repeats = 0
        self.errors = 0
        self.object_id: tuple[str, str] | None = None
        self.value: object = None
        self.unheard = _NONE

    @property
    def broken(self) -> bool:
        """Whether the object is no JSON at all."""
        return self.fault is not None

    def has_failed(self) -> bool:
        """Whether an error was reported, so that no record may come out."""
        return self.errors > 0

    def hears(self, code: str) -> bool:
        """Whether an issue with this code is shown to anybody, so that it is worth putting into words."""
        return CODES[code].severity not in self.unheard

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
        severity = CODES[code].severity
        if severity == "error":
            self.errors += 1
        if severity in self.unheard:
            self.issues.append(only_counted(code))
            return
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

    def add_to_last(self, sentence: str) -> None:
        """Add a sentence to the last issue's message."""
        last = self.issues[-1]
        if last.severity in self.unheard:
            return
        self.issues[-1] = msgspec.structs.replace(last, message=last.message + sentence)

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


# What other writers call the fields that a record may lack.
_OTHER_NAMES = {
    "content": ("text", "message", "value", "body", "utterance"),
    "value": ("text", "message", "content", "body", "utterance"),
    "role": ("speaker", "author", "from", "sender"),
    "from": ("speaker", "author", "role", "sender"),
    "turns": ("messages", "conversation", "conversations", "dialogue"),
    "messages": ("turns", "conversation", "conversations", "dialogue"),
    "conversation_id": ("id", "conversation", "session_id", "dialogue_id"),
    "output": ("response", "answer", "completion", "target"),
    "completion": ("output", "response", "answer", "target"),
    "prompt": ("question", "input", "instruction", "query"),
    "instruction": ("question", "prompt", "query"),
    "current_user_input": ("user_input", "input", "question", "prompt", "user"),
    "target_response": ("response", "answer", "output", "completion", "assistant"),
    "rejected": ("reject", "negative", "worse", "bad", "non_preferred_output"),
    "chosen": ("choose", "positive", "better", "good", "preferred_output"),
    "non_preferred_output": ("rejected", "reject", "negative"),
    "preferred_output": ("chosen", "choose", "positive"),
    "label": ("labels", "score", "rating", "kto_tag"),
}


_NAMES_LOOKED_AT, _NAME_LENGTH = 50, 60


def likely_field(obj: dict[str, Any], key: str) -> str | None:
    """Advice where the object has a field that most likely is the missing `key` under another name or misspelt."""
    names = tuple(name for name in list(obj)[:_NAMES_LOOKED_AT] if len(name) <= _NAME_LENGTH)
    found = _likeliest(names, key)
    return None if found is None else f"The record has `{found}`: if that is meant, call it `{key}`."


@lru_cache(maxsize=256)
def _likeliest(names: tuple[str, ...], key: str) -> str | None:
    """Remembered, because a file that lacks a field lacks it on every line."""
    plain = {_plain_name(name): name for name in reversed(names) if name != key}
    if (exact := plain.get(_plain_name(key))) is not None:
        return exact
    if (other := next((name for name in _OTHER_NAMES.get(key, ()) if name in names), None)) is not None:
        return other
    near = get_close_matches(_plain_name(key), plain, n=1, cutoff=0.8)
    return plain[near[0]] if near else None


def _plain_name(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


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
        advice = likely_field(obj, key) or f"Add `{key}` with its text."
        reading.report("missing_field", where, f"`{where}` is missing.", suggestion=advice)
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


def take_required_id(obj: dict[str, Any], reading: Reading, key: str = "conversation_id") -> str | None:
    """The id that groups the record; reported and None where it is absent, null, blank or of another type."""
    found, value = take_id(obj, key), obj.get(key)
    if found is not None:
        return found
    if key not in obj:
        advice = likely_field(obj, key) or f"Add `{key}`: any text that is the same for all records of a conversation."
        message = f"`{key}` is missing: which conversation is this?"
        reading.report("missing_field", key, message, suggestion=advice)
    elif isinstance(value, str):
        reading.report("blank_content", key, f"`{key}` is blank.", suggestion="Give the conversation an id.")
    else:
        code = "null_value" if value is None else "wrong_type"
        reading.report(code, key, f"`{key}` is {json_type(value)}; it must be a text.")
    return None


def take_own_id(obj: dict[str, Any], reading: Reading) -> str | None:
    """What groups the record: `conversation_id`, which several may share, else its `id`, which none may."""
    own_id = take_id(obj, "id")
    if own_id is not None:
        reading.object_id = ("id", own_id)
    return take_id(obj, "conversation_id") or own_id
