"""The package's archive: planned to the byte, readable by everybody, resumable anywhere, bounded in memory."""

import hashlib
import io
import shutil
import subprocess
import tracemalloc
import zipfile
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brightrun.models.package import Package, Source, stream
from brightrun.models.zip_layout import Member, ZipLayout
from brightrun.storage import Bucket
from brightrun.storage.local import LocalStore
from brightrun.storage.signing import UrlSigner

MOMENT = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
GIB = 1024**3


def member(name: str, content: bytes) -> Member[bytes]:
    return Member(name, len(content), zlib.crc32(content), content)


def read(layout: ZipLayout[bytes], start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(s.source[s.offset : s.offset + s.length] for s in layout.stretches(start, stop))


contents = st.dictionaries(st.text("aäz._", min_size=1, max_size=12), st.binary(max_size=200), min_size=1, max_size=6)


@given(contents)
def test_any_zip_reader_finds_the_members_as_they_were(files: dict[str, bytes]):
    layout = ZipLayout([member(name, content) for name, content in files.items()], MOMENT)
    archive = read(layout)
    assert len(archive) == layout.size
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == list(files)
        assert {name: opened.read(name) for name in files} == files
        info = opened.infolist()[0]
        assert info.date_time == (2026, 3, 1, 12, 34, 56)
        assert info.external_attr >> 16 == 0o100644


@given(contents, st.integers(0, 2000), st.integers(0, 2000))
def test_any_part_of_it_is_that_part_of_the_whole(files: dict[str, bytes], start: int, stop: int):
    layout = ZipLayout([member(name, content) for name, content in files.items()], MOMENT)
    assert read(layout, start, stop) == read(layout)[start:stop]


def test_the_date_does_not_depend_on_the_time_zone_and_stays_in_range():
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    files = [member("a", b"1")]
    assert read(ZipLayout(files, east)) == read(ZipLayout(files, MOMENT))
    with zipfile.ZipFile(io.BytesIO(read(ZipLayout(files, datetime(1970, 1, 1, tzinfo=UTC))))) as opened:
        assert opened.infolist()[0].date_time[0] == 1980


def test_two_members_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        ZipLayout([member("a", b"1"), member("a", b"2")], MOMENT)


@pytest.mark.skipif(shutil.which("unzip") is None, reason="there is no unzip here")
def test_info_zip_accepts_it(tmp_path: Path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(read(ZipLayout([member("ä.txt", b"text"), member("b", b"")], MOMENT)))
    tested = subprocess.run(["unzip", "-t", archive], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout


class _Virtual(io.RawIOBase):
    """A layout as a file, made where it is read."""

    def __init__(self, layout: ZipLayout[str]) -> None:
        self.layout, self.at = layout, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = {0: 0, 1: self.at, 2: self.layout.size}[whence] + offset
        return self.at

    def readinto(self, buffer: memoryview) -> int:
        got = b"".join(
            s.source[s.offset : s.offset + s.length] if isinstance(s.source, bytes) else bytes(s.length)
            for s in self.layout.stretches(self.at, self.at + len(buffer))
        )
        buffer[: len(got)] = got
        self.at += len(got)
        return len(got)


def test_members_and_archives_beyond_4_gib_are_zip64():
    small = b"after the large ones"
    layout = ZipLayout[str](
        [
            Member("five.bin", 5 * GIB, 1, "zeros"),
            Member("edge.bin", 0xFFFFFFFF, 2, "zeros"),
            Member("small.txt", len(small), zlib.crc32(small), small),  # type: ignore[arg-type]
        ],
        MOMENT,
    )
    with zipfile.ZipFile(io.BufferedReader(_Virtual(layout))) as opened:
        sizes = {info.filename: info.file_size for info in opened.infolist()}
        assert sizes == {"five.bin": 5 * GIB, "edge.bin": 0xFFFFFFFF, "small.txt": len(small)}
        assert opened.read("small.txt") == small
        with opened.open("five.bin") as stream:
            assert stream.read(10) == bytes(10)


def test_the_same_members_give_the_same_bytes():
    files = [member("a", b"1" * 1000), member("b", b"2")]
    first, second = (hashlib.sha256(read(ZipLayout(files, MOMENT))).hexdigest() for _ in range(2))
    assert first == second


@pytest.mark.anyio
async def test_a_large_package_is_sent_in_bounded_memory(tmp_path: Path):
    """256 MiB of a member of 4 GiB (a sparse file), from its middle on."""
    store = LocalStore(tmp_path, UrlSigner("http://127.0.0.1:1", b"any secret"), min_free_bytes=0)
    file = tmp_path / "objects" / "lora-models" / "w" / "weights"
    file.parent.mkdir(parents=True)
    with file.open("wb") as sparse:
        sparse.truncate(4 * GIB)
    layout = ZipLayout[Source]([Member("weights", 4 * GIB, 0, "w/weights")], MOMENT)
    package = Package(Bucket.LORA_MODELS, layout, "a.zip", '"etag"')
    sent = 0
    tracemalloc.start()
    try:
        async for block in stream(store, package, 2 * GIB, 2 * GIB + GIB // 4):
            sent += len(block)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == GIB // 4
    assert peak < 8 * 1024**2
