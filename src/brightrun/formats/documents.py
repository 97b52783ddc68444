"""Layouts that are one JSON document: an array of records, a single record, the full v4 file, an enriched file."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from brightrun.formats.decode import decode, locate_fault
from brightrun.formats.detect import Layout
from brightrun.formats.json_stream import ANOTHER_ENTRY, END_OF_FILE, JsonWalker, Path, StructureError, Value
from brightrun.formats.lines import ByteSource
from brightrun.formats.objects import ObjectReader
from brightrun.formats.reading import Reading, json_type, shown, take_id
from brightrun.formats.registry import FORMATS, Format, Object
from brightrun.formats.repeated_keys import may_repeat, report_repeats
from brightrun.formats.texts import PAIR_FIELDS
from brightrun.formats.v4 import enriched_id, read_pair

_SWALLOWED = 8  # bytes after a fault that may be more than the end of the broken record itself
# What the records of a document are read from, or by.
_FRAME = frozenset(
    {"conversations", "training_pairs", "conversation_metadata", "dataset_metadata", "training_file_metadata"}
)
OPENED: dict[Layout, Callable[[Path], bool]] = {
    "array": lambda path: not path,
    "document": lambda path: False,
    "v4_full": lambda path: (
        not path
        or path == ("conversations",)
        or (len(path) == 2 and path[0] == "conversations")
        or (len(path) == 3 and path[0] == "conversations" and path[2] == "training_pairs")
    ),
    "enriched_file": lambda path: path in ((), ("training_pairs",)),
}


def _entry_of(layout: Layout, entry: Format) -> Callable[[object], int | None]:
    """For `JsonWalker.resumes`: of which list an object is an entry, by the length of that list's path."""
    pair = FORMATS["brightrun_lora_v4"]

    def place(value: object) -> int | None:
        if not isinstance(value, dict):
            return None
        match layout:
            case "array":
                return 0 if entry.marks(value) else None
            case "v4_full":
                return 1 if "training_pairs" in value else 3 if pair.marks(value) else None
            case "enriched_file":
                return 1 if pair.marks(value) else None
            case _:
                return None

    return place


def _is_json(text: bytes) -> bool:
    try:
        decode(text)
    except ValueError:
        return False
    return True


class Declared(NamedTuple):
    """A number of records or conversations that the file declares about itself."""

    line: int
    byte_offset: int
    path: str
    number: int


class Document:
    """Reads one document. `declared`, `conversations`, `pairs` and `with_target` hold when it is exhausted."""

    def __init__(self, source: ByteSource, layout: Layout, entry: Format, objects: ObjectReader) -> None:
        self._walker = JsonWalker(source, OPENED[layout], objects.limit, _entry_of(layout, entry))
        self._layout, self._entry, self._object = layout, entry, objects
        self._number = self._index = 0
        self._last_was_broken = False
        self._conversation: Object | None = None
        self._conversation_number = -1
        self._pairs_of_conversation = self._conversation_offset = 0
        self._held: list[tuple[Value, str, str]] = []
        self._held_bytes = 0
        self.declared: list[Declared] = []
        self.conversations = self.pairs = self.with_target = 0

    def readings(self) -> Iterator[Reading]:
        """One reading a record. Where the document itself is broken, the error `broken_structure` says what of it was
        not read."""
        read = {"v4_full": self._full, "enriched_file": self._enriched}.get(self._layout, self._plain)
        try:
            for value in self._walker:
                yield from self._faults()
                for reading in read(value):
                    if reading.records:
                        self._index = reading.records[-1].index + 1
                    self._last_was_broken = reading.fault is not None
                    if reading.fault is not None:
                        self._go_on_after(reading, value)
                    yield reading
            yield from self._faults()
            yield from self._release()
            if self._layout == "v4_full":
                yield from self._conversation_ends()
        except StructureError as error:
            yield from self._faults()
            yield from self._release()
            if error.found != END_OF_FILE:
                yield self._broken(error, f"{error} Nothing after it was checked.")
            elif not self._last_was_broken:  # a cut-off record is said once
                yield self._broken(error, str(error), "Was the file cut off? Add what is missing at its end.")

    def _go_on_after(self, reading: Reading, value: Value) -> None:
        """Find the records that a broken one has swallowed, and say where reading goes on or that it does not."""
        fault = reading.fault or 0
        resumed_at = self._walker.resume(value, fault)
        if resumed_at is not None:
            reading.add_to_last(f" Reading goes on with the record at byte {resumed_at:,}.")
        elif self._walker.at_end() and value.data is not None and len(value.data.rstrip()) - fault > _SWALLOWED:
            reading.add_to_last(" No later record could be told apart, so nothing after it was checked.")

    def _faults(self) -> Iterator[Reading]:
        for error in self._walker.faults:
            if error.expected == ANOTHER_ENTRY:
                yield self._broken(error, str(error), "Remove the comma.")
            elif self._last_was_broken:
                continue  # it is what the broken record has left
            elif error.resumed_at == error.offset:
                yield self._broken(error, str(error), "Put a comma between the entries.")
            else:
                message = f"{error} Reading goes on with the record at byte {error.resumed_at:,}."
                yield self._broken(
                    error, message, "Correct the place shown; what stands before that byte was not read."
                )
        self._walker.faults.clear()
        for path, offset in self._walker.repeated:
            yield self._repeated(path, offset)
        self._walker.repeated.clear()

    def _repeated(self, path: Path, offset: int) -> Reading:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
        reading = self._aside(offset)
        code = "duplicate_key" if path[-1] in _FRAME else "repeated_key"
        reading.report(code, where, f"`{where}` stands twice in one object.", fixable=False)
        return reading

    def _broken(self, error: StructureError, message: str, suggestion: str | None = None) -> Reading:
        reading = self._aside(error.offset)
        if error.expected == END_OF_FILE:
            suggestion = "The file holds more than one JSON document. Write one record a line, or one list of them."
        reading.report("broken_structure", "", message, suggestion=suggestion)
        return reading

    def _reading(self, value: Value, path: str) -> Reading:
        self._number += 1
        return Reading(self._number, value.offset, path, max(self._number - 1, self._index))

    def _aside(self, offset: int, path: str = "") -> Reading:
        """For what concerns the document between its records, at the record that comes next."""
        reading = Reading(self._number + 1, offset, path, self._index)
        reading.is_record = False
        return reading

    def _plain(self, value: Value) -> Iterator[Reading]:
        if self._layout == "array":
            if not value.path:
                return  # an empty array: no records, which is said at the end
            path = f"[{value.path[0]}]"
        else:
            path = ""
        yield self._object.read(self._reading(value, path), value.data, value.length, self._entry, value.first_line)

    # The full v4 file: conversations[i].training_pairs[j]

    def _full(self, value: Value) -> Iterator[Reading]:
        match value.path:
            case ("training_file_metadata",):
                metadata, faults = self._metadata(value, "training_file_metadata")
                yield from faults
                self._declare(value, metadata, "training_file_metadata", "total_training_pairs", "total_conversations")
            case ("conversations",):
                yield self._misplaced(value, "conversations", "a list of conversations")
            case ("conversations", int(number), *rest):
                if number != self._conversation_number:
                    yield from self._release()
                    yield from self._conversation_ends()
                    self._conversation, self._conversation_number, self._pairs_of_conversation = None, number, 0
                    self._conversation_offset = value.offset if not rest else self._walker.offset_within(2)
                    self.conversations += 1
                yield from self._in_conversation(value, number, rest)
            case ():
                yield self._misplaced(value, "", "an object with `conversations`")
            case _:
                pass  # consultant_profile and whatever else describes the file

    def _in_conversation(self, value: Value, number: int, rest: list[str | int]) -> Iterator[Reading]:
        where = f"conversations[{number}]"
        match rest:
            case ["conversation_metadata"]:
                self._conversation, faults = self._metadata(value, f"{where}.conversation_metadata")
                yield from faults
                yield from self._release()
            case ["training_pairs", int(pair)]:
                self._pairs_of_conversation += 1
                yield from self._hold(value, f"{where}.training_pairs[{pair}]", f"conversation-{number}")
            case ["training_pairs", *_]:
                self._pairs_of_conversation += 1  # said here, not again at the conversation's end
                yield self._misplaced(value, f"{where}.training_pairs", "a list of pairs")
            case [] | [int()]:
                self._pairs_of_conversation += 1
                yield self._misplaced(value, where, "an object with `training_pairs`")
            case _:
                pass

    def _conversation_ends(self) -> Iterator[Reading]:
        if self._conversation_number >= 0 and not self._pairs_of_conversation:
            where = f"conversations[{self._conversation_number}]"
            reading = self._aside(self._conversation_offset, where)
            reading.report("missing_field", "training_pairs", f"`{where}.training_pairs` is missing.")
            yield reading

    # One enriched conversation: training_pairs[j]

    def _enriched(self, value: Value) -> Iterator[Reading]:
        match value.path:
            case ("dataset_metadata",):
                metadata, faults = self._metadata(value, "dataset_metadata")
                yield from faults
                self._conversation = {"conversation_id": enriched_id(metadata)}
                self._declare(value, metadata, "dataset_metadata", "total_turns")
                yield from self._release()
            case ("training_pairs", int(number)):
                yield from self._hold(value, f"training_pairs[{number}]", "conversation-0")
            case ("training_pairs", *_):
                yield self._misplaced(value, "training_pairs", "a list of pairs")
            case ():
                yield self._misplaced(value, "", "an object with `training_pairs`")
            case _:
                pass

    # Both

    def _hold(self, value: Value, path: str, fallback_id: str) -> Iterator[Reading]:
        """Read a pair, or keep it until what is said about its conversation was met, which some write after the pairs.

        Not kept are broken pairs, after which the walker looks for the next one, and more than one record may have.
        """
        if self._conversation is None:
            self._held_bytes += value.length
            if self._held_bytes <= self._object.limit and value.data is not None and _is_json(value.data):
                self._held.append((value, path, fallback_id))
                return
            yield from self._release()
            self._conversation = {}
        yield self._pair(value, path, self._conversation, fallback_id)

    def _release(self) -> Iterator[Reading]:
        held, self._held, self._held_bytes = self._held, [], 0
        for value, path, fallback_id in held:
            yield self._pair(value, path, self._conversation, fallback_id)

    def _pair(self, value: Value, path: str, conversation: Object | None, fallback_id: str) -> Reading:
        reading = self._reading(value, path)
        reading.conversation, reading.fallback_id = conversation, fallback_id

        def read(pair: object) -> None:
            read_document_pair(pair, reading)

        self._object.read_with(reading, value.data, value.length, read, PAIR_FIELDS, value.first_line)
        self.pairs += 1
        self.with_target += len(reading.records)
        if reading.records:
            self._index = reading.records[-1].index + 1
        return reading

    def _metadata(self, value: Value, path: str) -> tuple[Object | None, list[Reading]]:
        reading = self._aside(value.offset, path)
        if value.data is None:
            reading.report("record_too_long", "", f"`{path}` is {value.length:,} bytes long; it was skipped.")
            return None, [reading]
        try:
            metadata: Any = decode(value.data)
        except ValueError:
            fault = locate_fault(value.data)
            reading.report(fault.code, "", fault.message, suggestion=fault.suggestion, position=fault.position)
            return None, [reading]
        if may_repeat(value.data, metadata):
            report_repeats(value.data, reading, None)
        if not isinstance(metadata, dict):
            reading.report("wrong_type", "", f"`{path}` is {json_type(metadata)}; it must be an object.")
            return None, [reading]
        return metadata, [reading] if reading.issues else []

    def _declare(self, value: Value, metadata: Object | None, path: str, *keys: str) -> None:
        for key in keys:
            count = (metadata or {}).get(key)
            if isinstance(count, int) and not isinstance(count, bool):
                self.declared.append(Declared(1, value.offset, f"{path}.{key}", count))

    def _misplaced(self, value: Value, path: str, wanted: str) -> Reading:
        reading = self._aside(value.offset, path)
        if value.data == b"[]":
            reading.report("empty_list", "", f"`{path}` is empty.")
        else:
            reading.report("wrong_type", "", f"`{path or 'the file'}` must be {wanted}.")
        return reading


def read_document_pair(pair: object, reading: Reading) -> None:
    """A pair of a document. The conversation's id stands above it: the pair's own is only its template's name."""
    if not isinstance(pair, dict):
        message = f"The pair is {json_type(pair)}; a pair is an object: {{…}}."
        reading.report("not_an_object", "", message, excerpt=shown(pair))
    elif not FORMATS["brightrun_lora_v4"].marks(pair):
        message = "The pair has neither `current_user_input` nor `target_response`."
        reading.report("missing_field", "target_response", message)
    else:
        read_pair(pair, reading, take_id(reading.conversation or {}, "conversation_id"))
