"""A file in UTF-16 or UTF-32 written anew in UTF-8."""

import codecs
from typing import BinaryIO

_BLOCK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def to_utf8(source: BinaryIO, out: BinaryIO) -> str:
    """Decode and write in UTF-8, without byte order mark. Answers the encoding that was found.

    Halves of characters stay halves, to be mended where they stand; a byte too few at the very end is left out.
    """
    head = source.read(4)
    mark, name = next(((m, n) for m, n in _MARKS if head.startswith(m)), (b"", ""))
    if not name:  # without a mark: where the zeros of plain letters are
        name = "utf-16-be" if head[:1] == b"\x00" else "utf-16-le"
    decoder = codecs.getincrementaldecoder(name)("surrogatepass")
    block = head[len(mark) :]
    while block:
        out.write(decoder.decode(block).encode("utf-8", "surrogatepass"))
        block = source.read(_BLOCK)
    return name
