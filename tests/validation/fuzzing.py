"""Damage of every kind to training files, seeded, and what must hold for the report about any file whatever."""

import copy
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from unittest.mock import patch

import clean_files

from brightrun.formats import reader
from brightrun.formats.issues import EXCERPT_CHARACTERS
from brightrun.formats.names import FORMAT_IDS
from brightrun.validation import Report, run, validate

Damage = Callable[[random.Random, bytes], bytes]

_TOKENS = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\r\n", b"\\", b"\\u", b"\\ud83d", b"\x00", b"\x7f"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2", b"null", b"true", b"NaN", b"1e999", b"-", b"0" * 40, b" "),
    *(b'{"', b'"}', b'":"', b"[[[[", b"]]]]", b"{{name}}", b"<|im_end|>", b"// comment\n", b"'", b'{"_meta":{}}'),
    *(b'"role"', b'"content"', b'"messages"', b'"turns"', b'"label"', b'"training_pairs"', b'"target_response":null'),
)


def _flip(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _behead(rng: random.Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data) + 1) :]


def _remove(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 1, 1, 2, 5, 40, 400)) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice(_TOKENS) * rng.choice((1, 1, 1, 2, 50)) + data[start:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randrange(1, 300)]
    to = rng.randrange(len(data) + 1)
    return data[:to] + piece * rng.choice((1, 1, 2, 30)) + data[to:]


def _swap(rng: random.Random, data: bytes) -> bytes:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[: cuts[0]] + data[cuts[1] : cuts[2]] + data[cuts[0] : cuts[1]] + data[cuts[2] :]


def _noise(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.randrange(1, 60)) + data[start:]


def _lines_shuffled(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    rng.shuffle(lines)
    return b"\n".join(lines)


def _other_encoding(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", errors="replace")
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7")), errors="replace")


def _nest(rng: random.Random, data: bytes) -> bytes:
    depth = rng.choice((20, 300, 1_100))
    start = max(data.find(b":", rng.randrange(len(data))) + 1, 0)
    opened, closed = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return data[:start] + opened * depth + b"1" + closed * depth + b"," + data[start:]


DAMAGES: tuple[Damage, ...] = (
    *(_flip, _cut, _behead, _remove, _remove, _insert, _insert, _repeat, _swap, _noise, _lines_shuffled),
    *(_other_encoding, _nest),
)


def sources(rng: random.Random) -> clean_files.File:
    """A clean file of any kind and layout."""
    which = rng.randrange(10)
    if which == 0:
        indent = rng.choice((None, 2))
        return clean_files.render_document("brightrun_lora_v4", clean_files.full_document(rng), indent)
    if which == 1:
        indent = rng.choice((None, 1))
        return clean_files.render_document("enriched_conversation", clean_files.enriched(rng), indent)
    kind, layout = rng.choice(list(clean_files.KINDS)), rng.choice(clean_files.LAYOUTS)
    return clean_files.make(kind, layout, rng, rng.choice((1, 3, 8)))


def damaged_files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Files with one to four kinds of damage each, and the format that is declared for them."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        file = sources(rng)
        data = file.data
        if rng.random() < 0.1:
            data += sources(rng).data
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = rng.choice(DAMAGES)(rng, data) if data else data
        yield rng.choice(("auto", "auto", file.format, rng.choice(FORMAT_IDS))), data


def check(data: bytes, declared: str = "auto", *, thoroughly: bool = False) -> Report:
    """The report about a file, held to everything that is promised about any report."""
    report = validate(io.BytesIO(data), checks="structure", format=declared, max_issues=None)
    issues = report.issues
    assert report.by_code == dict(sorted(Counter(issue.code for issue in issues).items()))
    assert report.errors_total == sum(issue.severity == "error" for issue in issues)
    assert report.warnings_total == sum(issue.severity == "warning" for issue in issues)
    assert report.training_ready == (report.errors_total == 0 and report.training_pairs > 0)
    assert report.training_ready or report.errors_total, "a file that is not ready must say why"
    assert report.lines == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    assert report.file_size == len(data)
    assert json.loads(report.to_json()) == report.to_dict()
    by_lines = report.format is not None and _is_by_lines(data, declared)
    for before, issue in zip([None, *issues], issues, strict=False):
        assert before is None or before.line <= issue.line
        assert issue.line >= 1
        assert 0 <= issue.byte_offset <= len(data)
        if by_lines:
            line = data.count(b"\n", 0, issue.byte_offset) + 1
            assert line == issue.line or issue.byte_offset == len(data), issue
        assert issue.message
        assert issue.suggestion
        assert len(issue.excerpt) <= EXCERPT_CHARACTERS
        assert issue.excerpt.isprintable()
    assert report.records <= max(report.lines, data.count(b"{") + data.count(b",") + 1)
    if thoroughly:
        _check_other_ways(data, declared, report)
    return report


def _is_by_lines(data: bytes, declared: str) -> bool:
    found = reader.detect(data[: reader.HEAD_BYTES], complete=len(data) <= reader.HEAD_BYTES, declared=declared)
    return found.layout == "lines"


def _check_other_ways(data: bytes, declared: str, report: Report) -> None:
    """The same file once more, without the fast ways, and with more checks."""
    with patch.object(run.Run, "may_hurry", lambda self: False):
        assert validate(io.BytesIO(data), checks="structure", format=declared, max_issues=None) == report
    more = validate(io.BytesIO(data), checks="default", format=declared, max_issues=None)
    key = [(issue.line, issue.byte_offset, issue.path, issue.code, issue.message) for issue in report.issues]
    more_keys = Counter((i.line, i.byte_offset, i.path, i.code, i.message) for i in more.issues)
    assert Counter(key) <= more_keys
    assert (more.records, more.training_pairs, more.turns) == (report.records, report.training_pairs, report.turns)


_ODD_VALUES: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**63,
        2**64,
        -(2**70),
        0.0,
        -0.0,
        1e308,
        5e-324,
        "",
        " ",
        "\n",
        "\u200b",
        "\x00",
        "a",
    ),
    *("true", "[]", "{}", '{"a": 1}', "{{name}}", "</s>", "\\", "\ufffd", "😀" * 50, "x" * 5_000, [], {}, [[]], [None]),
    *([{}], {"": None}, {"role": "user"}, {"role": "assistant", "content": "Yes."}, {"from": "gpt", "value": "Yes."}),
    *([["a", "b"]], [{"type": "text", "text": "a"}], [{"type": "image_url", "image_url": {}}], {"name": "f"}),
)
_ODD_KEYS = (
    "",
    " ",
    "role ",
    "Role",
    "$ref",
    "__proto__",
    "a.b",
    "[0]",
    "\x00",
    "ключ",
    "content",
    "_meta",
    "k" * 3_000,
)


def _deep(rng: random.Random) -> object:
    value: object = "deep"
    for _ in range(rng.choice((3, 30, 240, 260, 900))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _odd(rng: random.Random, donors: list[object]) -> object:
    which = rng.random()
    if which < 0.05:
        return _deep(rng)
    return copy.deepcopy(rng.choice(donors) if which < 0.4 else rng.choice(_ODD_VALUES))


def _holders(value: object) -> list[dict[str, object] | list[object]]:
    """Every object and list within a value."""
    found: list[dict[str, object] | list[object]] = []
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found.append(value)
            waiting += value.values()
        elif isinstance(value, list):
            found.append(value)
            waiting += value
    return found


def _mutate(rng: random.Random, value: object, donors: list[object]) -> None:
    holder = rng.choice(_holders(value))
    if isinstance(holder, list):
        place = rng.randrange(len(holder) + 1)
        match rng.randrange(4):
            case 0:
                holder.insert(place, _odd(rng, donors))
            case 1 if holder:
                holder.pop(place - 1)
            case 2 if holder:
                holder[place - 1] = _odd(rng, donors)
            case _:
                rng.shuffle(holder)
        return
    keys = list(holder)
    match rng.randrange(5):
        case 0 if keys:
            del holder[rng.choice(keys)]
        case 1:
            holder[rng.choice(_ODD_KEYS)] = _odd(rng, donors)
        case 2 if keys:
            holder[rng.choice((*_ODD_KEYS, *keys))] = holder.pop(rng.choice(keys))
        case 3:
            other = _holders(rng.choice(donors))
            if other and isinstance(other[0], dict):
                holder.update(copy.deepcopy(other[0]))
        case _ if keys:
            holder[rng.choice(keys)] = _odd(rng, donors)
        case _:
            holder["added"] = _odd(rng, donors)


def mutated_files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Files that are JSON throughout, with fields removed, renamed, exchanged, retyped and nested."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        format_id, maker = rng.choice(list(clean_files.KINDS.values()))
        objects: list[object] = [maker(rng, n) for n in range(rng.choice((1, 2, 6)))]
        if rng.random() < 0.2:
            format_id, objects = "brightrun_lora_v4", [clean_files.full_document(rng)]
        donors = [rng.choice(list(clean_files.KINDS.values()))[1](rng, 0) for _ in range(3)]
        donors += [part for donor in donors for part in _holders(donor)]
        for _ in range(rng.choice((1, 1, 2, 5))):
            _mutate(rng, objects, donors)
        try:
            yield rng.choice(("auto", format_id)), _written(rng, objects)
        except RecursionError:
            continue  # nested more deeply than Python writes


def _written(rng: random.Random, objects: list[object]) -> bytes:
    style = rng.randrange(4)
    ascii_only = rng.random() < 0.5
    if style == 0:
        return json.dumps(objects, ensure_ascii=ascii_only).encode()
    if style == 1:
        return json.dumps(objects[0] if len(objects) == 1 else objects, indent=1, ensure_ascii=ascii_only).encode()
    return "\n".join(json.dumps(obj, ensure_ascii=ascii_only) for obj in objects).encode()
