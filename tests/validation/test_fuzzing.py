"""No file crashes the validator, makes it hang or hold what the file holds, whatever was done to it."""

import io
import json
import random
import time
import tracemalloc
from typing import Any

import clean_files
import fuzzing
import orjson
import pytest

from brightrun.validation import validate


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_are_reported_whatever_they_are(seed: int) -> None:
    for number, (declared, data) in enumerate(fuzzing.damaged_files(seed, 200)):
        fuzzing.check(data, declared, thoroughly=number % 8 == 0)


@pytest.mark.parametrize("seed", range(3))
def test_fields_that_are_exchanged_and_retyped_are_reported_whatever_they_are(seed: int) -> None:
    for number, (declared, data) in enumerate(fuzzing.mutated_files(seed, 150)):
        fuzzing.check(data, declared, thoroughly=number % 8 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 116))
def test_damage_of_every_kind_at_length(seed: int) -> None:
    for files in (fuzzing.damaged_files(seed, 2_000), fuzzing.mutated_files(seed, 1_000)):
        for declared, data in files:
            fuzzing.check(data, declared, thoroughly=True)


def test_the_same_file_has_the_same_report() -> None:
    for declared, data in fuzzing.damaged_files(9, 40):
        assert fuzzing.check(data, declared) == fuzzing.check(data, declared)


ALPACA = orjson.dumps(clean_files.alpaca(random.Random(1), 1))
# Each is an array or a line that never ends well, made of a beginning, many times a middle, and an end.
ENDLESS: dict[str, tuple[bytes, bytes, bytes]] = {
    "objects in objects": (b"[" + ALPACA + b', {"x": oops, "a":', b'{"a":', b"]"),
    "lists in lists": (b'{"messages":', b"[", b""),
    "no bracket closed": (b"[", ALPACA[:-1] + b",", b"]"),
    "no bracket opened": (b"[", ALPACA[1:] + b",", b"]"),
    "no quote closed": (b"[", ALPACA[:-3] + b"},", b"]"),
    "every comma forgotten": (b"[", ALPACA + b" ", b"]"),
    "every second record broken": (b"[", ALPACA + b',{"instruction": oops},', ALPACA + b"]"),
    "beginnings of keys": (b"[" + ALPACA, b'{"', b""),
    "backslashes": (b'{"messages": "', b"\\", b""),
    "one text": (b'{"instruction": "', b"clay ", b""),
    "a key": (b'{"', b"k", b""),
    "digits": (b'[{"instruction": ', b"7", b"}]"),
    "blank lines": (b"", b" \n", b""),
    "braces": (ALPACA + b"\n", b"{{ ", b"\n"),
}


SIZE, LIMIT = 400_000, 20_000


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_read_in_bounded_memory_and_without_a_crawl(name: str) -> None:
    begin, middle, end = ENDLESS[name]
    plain = b"[" + (ALPACA + b",") * (SIZE // len(ALPACA)) + ALPACA + b"]"
    data = begin + middle * (SIZE // len(middle)) + end
    seconds = []
    for text in (plain, data):
        begun = time.process_time()
        validate(io.BytesIO(text), checks="structure", max_record_bytes=LIMIT)
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 100 * max(seconds[0], 0.05)
    if name == "beginnings of keys":
        return  # a million tokens, of which tracing would make a minute
    tracemalloc.start()
    validate(io.BytesIO(data[: SIZE // 3]), checks="structure", max_record_bytes=LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize(
    "value", [10**300, float("1e308"), -(2**64), 2**63, 0.1 + 0.2, "𝕏" * 100, "\u2028\x85"], ids=range(7)
)
def test_numbers_and_texts_beyond_the_usual_are_no_trouble(value: Any) -> None:
    record = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "id": value}
    report = fuzzing.check(json.dumps({**record, "more": {str(value): [value]}}).encode(), thoroughly=True)
    assert report.errors_total == 0
