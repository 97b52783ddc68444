"""A map from 64-bit hashes to numbers that keeps few bytes an entry, for checks that compare records."""

import mmap
from array import array
from typing import TypeAlias

from brightrun.validation.spill import SPILL_BYTES, no_room

_EMPTY = 0
_MASK = (1 << 64) - 1
_FIRST_SLOTS = 1024
_Numbers: TypeAlias = "array[int] | memoryview[int]"


class SeenMap:
    """Open addressing over two flat arrays: 16 bytes a slot, at most two thirds full, so 24 to 48 bytes an entry.

    Keys are Python's own 64-bit hashes: among a million records the chance of one accidental collision is under
    10⁻⁷. Values are non-negative. limit: bytes of memory; beyond, both arrays lie in a temporary file without a name
    that is mapped into memory, so that the system keeps as much of it as there is room for.

    Raises OSError where there is no room for the file.
    """

    def __init__(self, limit: int = SPILL_BYTES) -> None:
        self._limit = limit
        self._keys: _Numbers
        self._values: _Numbers
        self._keys, self._values = self._room(_FIRST_SLOTS)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def spilled(self) -> bool:
        """Whether the entries lie in a temporary file."""
        return isinstance(self._keys, memoryview)

    def get(self, key: int) -> int | None:
        """The value stored under a hash; None when there is none."""
        slot = self._slot(key & _MASK or 1)
        return self._values[slot] if self._keys[slot] != _EMPTY else None

    def put(self, key: int, value: int) -> None:
        """Store a value, replacing an earlier one."""
        key = key & _MASK or 1
        slot = self._slot(key)
        if self._keys[slot] == _EMPTY:
            self._count += 1
            self._keys[slot] = key
        self._values[slot] = value
        if self._count * 3 > len(self._keys) * 2:
            self._grow()

    def entries(self) -> tuple["array[int]", "array[int]"]:
        """Keys and values, one beside the other, in no order."""
        taken = [slot for slot, key in enumerate(self._keys) if key != _EMPTY]
        return array("Q", [self._keys[slot] for slot in taken]), array("Q", [self._values[slot] for slot in taken])

    def _slot(self, key: int) -> int:
        """Where `key` is, or the free slot where it belongs."""
        keys, mask = self._keys, len(self._keys) - 1
        slot = (key ^ key >> 29) & mask
        while keys[slot] != _EMPTY and keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys, self._values = self._room(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key != _EMPTY:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value

    def _room(self, slots: int) -> "tuple[_Numbers, _Numbers]":
        """Two arrays of zeros."""
        if 16 * slots <= self._limit:
            return array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))
        import tempfile

        with tempfile.TemporaryFile(prefix="brightrun-seen-") as file:
            try:
                # Written, not only lengthened: a full disk would otherwise end the process when a page is touched.
                for _ in range(16 * slots >> 13):
                    file.write(bytes(1 << 13))
                file.flush()
            except OSError as error:
                raise no_room(error) from error
            whole = memoryview(mmap.mmap(file.fileno(), 16 * slots)).cast("Q")
        return whole[:slots], whole[slots:]
