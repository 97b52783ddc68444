"""Bytes that a check puts aside until the file is over: in memory while there are few, then in a temporary file."""

import errno
from typing import BinaryIO, cast

SPILL_BYTES = 64 << 20
NO_ROOM_TO_COMPARE = "No room in"


class Spill:
    """Append-only. The file has no name, so it is gone when the spill is closed or collected, or the process ends.

    limit: bytes kept in memory. Raises OSError that says what the room is for where the disk is full.
    """

    def __init__(self, limit: int = SPILL_BYTES) -> None:
        import tempfile

        self._file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=max(1, limit), prefix="brightrun-compare-"))  # noqa: SIM115
        self.size = 0
        self._at_end = True

    def append(self, data: bytes) -> int:
        """Put bytes aside. Returns where they begin."""
        start = self.size
        try:
            if not self._at_end:
                self._file.seek(start)
                self._at_end = True
            self._file.write(data)
        except OSError as error:
            raise no_room(error) from error
        self.size += len(data)
        return start

    def read(self, start: int, length: int) -> bytes:
        """Bytes that were put aside before."""
        self._at_end = False
        try:
            self._file.seek(start)
            return self._file.read(length)
        except OSError as error:  # what was buffered is written first
            raise no_room(error) from error

    def close(self) -> None:
        """Forget everything."""
        self._file.close()


def no_room(error: OSError) -> OSError:
    """The same error, saying what the room is wanted for where there is none."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    import tempfile

    where = tempfile.gettempdir()
    return OSError(error.errno, f"{NO_ROOM_TO_COMPARE} {where}, where records are compared in a temporary file")
