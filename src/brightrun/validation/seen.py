"""A map from 64-bit hashes to numbers that keeps few bytes an entry, for checks that compare records."""

from array import array

_EMPTY = 0
_MASK = (1 << 64) - 1


class SeenMap:
    """Open addressing over two flat arrays: 16 bytes a slot, at most two thirds full, so 24 to 48 bytes an entry.

    Keys are Python's own 64-bit hashes: among a million records the chance of one accidental collision is under
    10⁻⁷. Values are non-negative.
    """

    def __init__(self) -> None:
        self._keys, self._values = array("Q", bytes(8 * 1024)), array("Q", bytes(8 * 1024))
        self._count = 0

    def __len__(self) -> int:
        return self._count

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

    def _slot(self, key: int) -> int:
        """Where `key` is, or the free slot where it belongs."""
        keys, mask = self._keys, len(self._keys) - 1
        slot = (key ^ key >> 29) & mask
        while keys[slot] != _EMPTY and keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys, self._values = array("Q", bytes(16 * len(keys))), array("Q", bytes(16 * len(keys)))
        for key, value in zip(keys, values, strict=True):
            if key != _EMPTY:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value
