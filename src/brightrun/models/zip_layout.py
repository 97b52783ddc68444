"""A zip archive as a plan: every byte known before the first is read, so that it can be sent from any offset.

Members are stored, not compressed (adapter weights do not shrink), so with each one's size and CRC-32 known
beforehand the whole archive's length, and what lies where in it, follow. The same members give the same bytes.
Format: PKWARE APPNOTE 6.3, with ZIP64 where a size or an offset needs it.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

Source = TypeVar("Source")

_32BIT = 0xFFFFFFFF
_16BIT = 0xFFFF
_UTF8_NAMES = 0x800
_UNIX = 3 << 8
_REGULAR_0644 = 0o100644 << 16


@dataclass(frozen=True)
class Member(Generic[Source]):
    """One file of the archive. source: whatever the caller reads its `size` bytes from. crc32: of those bytes."""

    name: str
    size: int
    crc32: int
    source: Source


@dataclass(frozen=True)
class Stretch(Generic[Source]):
    """`length` bytes of the archive: from `offset` of a member's source, or of `source` itself when that is bytes."""

    source: Source | bytes
    offset: int
    length: int


class ZipLayout(Generic[Source]):
    """The archive of `members` in this order, all dated `modified` (UTC, to two seconds, 1980 to 2107)."""

    def __init__(self, members: Sequence[Member[Source]], modified: datetime) -> None:
        names = [member.name for member in members]
        if len(set(names)) != len(names):
            raise ValueError(f"two members of the archive have the same name: {sorted(names)}")
        stamp = _dos_time(modified)
        self._parts: list[tuple[Source | bytes, int]] = []
        directory = b""
        at = 0
        for member in members:
            header = _local_header(member, stamp)
            directory += _directory_entry(member, stamp, at)
            self._parts += [(header, len(header)), (member.source, member.size)]
            at += len(header) + member.size
        end = directory + _end(len(members), len(directory), at)
        self._parts.append((end, len(end)))
        self.size = at + len(end)

    def stretches(self, start: int = 0, stop: int | None = None) -> Iterator[Stretch[Source]]:
        """What to send for the bytes `start` up to, not including, `stop` (None: the end)."""
        stop = self.size if stop is None else min(stop, self.size)
        at = 0
        for source, length in self._parts:
            first, last = max(start, at), min(stop, at + length)
            if first < last:
                yield Stretch(source, first - at, last - first)
            at += length


def _dos_time(moment: datetime) -> tuple[int, int]:
    """(time, date) as DOS had them."""
    utc = moment.astimezone(UTC)
    year = min(max(utc.year, 1980), 2107)
    return utc.hour << 11 | utc.minute << 5 | utc.second // 2, (year - 1980) << 9 | utc.month << 5 | utc.day


def _local_header(member: Member[Source], stamp: tuple[int, int]) -> bytes:
    name = member.name.encode()
    large = member.size >= _32BIT
    size = _32BIT if large else member.size
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.size) if large else b""
    fixed = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 45 if large else 20, _UTF8_NAMES, 0, *stamp, member.crc32, size, size,
        len(name), len(extra),
    )  # fmt: skip
    return fixed + name + extra


def _directory_entry(member: Member[Source], stamp: tuple[int, int], at: int) -> bytes:
    name = member.name.encode()
    wide = ([member.size, member.size] if member.size >= _32BIT else []) + ([at] if at >= _32BIT else [])
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = 45 if wide else 20
    size, offset = min(member.size, _32BIT), min(at, _32BIT)
    fixed = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", _UNIX | version, version, _UTF8_NAMES, 0, *stamp, member.crc32, size, size,
        len(name), len(extra), 0, 0, 0, _REGULAR_0644, offset,
    )  # fmt: skip
    return fixed + name + extra


def _end(members: int, directory_size: int, directory_at: int) -> bytes:
    wide = b""
    if members >= _16BIT or directory_size >= _32BIT or directory_at >= _32BIT:
        wide = struct.pack(
            "<4sQ2H2L4Q", b"PK\x06\x06", 44, _UNIX | 45, 45, 0, 0, members, members, directory_size, directory_at
        ) + struct.pack("<4sLQL", b"PK\x06\x07", 0, directory_at + directory_size, 1)
    count = min(members, _16BIT)
    return wide + struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, min(directory_size, _32BIT), min(directory_at, _32BIT), 0
    )
