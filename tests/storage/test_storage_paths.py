"""Paths cannot leave their bucket, whatever a user names a file."""

import string
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.errors import InvalidInputError
from brightrun.storage.paths import MAX_COMPONENT_BYTES, Bucket, check_bucket, check_path, object_path, safe_name

anything = st.text(alphabet=st.characters(), max_size=300)  # surrogates and control characters included
pathlike = st.lists(
    st.sampled_from(["..", ".", "", "a", "b.txt", "\x00", "\\", "ä", " ", "x" * 250, "\ud800", "\n"]), max_size=6
).map("/".join)


@given(st.one_of(anything, pathlike))
def test_a_path_is_safe_or_refused(path: str) -> None:
    try:
        check_path(path)
    except InvalidInputError as error:
        error.message.encode()  # the message itself can be shown
        return
    parts = PurePosixPath(path)
    assert not parts.is_absolute()
    assert "/".join(parts.parts) == path
    assert not {".", ".."} & set(parts.parts)
    assert all(0 < len(part.encode()) <= MAX_COMPONENT_BYTES for part in parts.parts)
    assert not any(c in path for c in "\0\n\r\\")


@given(anything)
def test_any_file_name_becomes_one_safe_component(name: str) -> None:
    made = safe_name(name)
    assert "/" not in check_path(made)
    assert safe_name(made) == made
    assert object_path("w", "datasets", "d", name) == f"w/datasets/d/{made}"


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_ äöß漢", min_size=1).filter(lambda s: s.strip(" _")))
def test_an_ordinary_name_stays_as_it_is(stem: str) -> None:
    name = f"{stem.strip()}.jsonl"
    if "__" not in name and len(name.encode()) <= MAX_COMPONENT_BYTES:
        assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("C:\\Users\\me\\My file.jsonl", "My file.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        (".hidden", "hidden"),
        ("a?b*c<d>.json", "a_b_c_d_.json"),
        ("x" * 300 + ".jsonl", "x" * 194 + ".jsonl"),
        ("Fragen & Antworten.jsonl", "Fragen _ Antworten.jsonl"),
    ],
)
def test_names_stay_readable(name: str, kept: str) -> None:
    assert safe_name(name) == kept


def test_an_unknown_bucket_names_the_known_ones() -> None:
    assert check_bucket("exports") is Bucket.EXPORTS
    with pytest.raises(InvalidInputError, match="lora-datasets"):
        check_bucket("../exports")
