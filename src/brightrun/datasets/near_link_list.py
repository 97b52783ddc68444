"""Which conversations of a file say nearly the same, kept for its split: gzipped JSON Lines, `[later id, earlier id]`,
written beside the list of findings when a file is validated."""

import gzip
from pathlib import Path

import msgspec


class NearLinkWriter:
    """Takes the links while a file is validated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = gzip.open(path, "wb", compresslevel=1)  # noqa: SIM115 - closed by close()
        self._encoder = msgspec.json.Encoder()

    def add(self, later: str, earlier: str) -> None:
        """Add a link from a conversation to an earlier one that it is like."""
        try:
            line = self._encoder.encode((later, earlier))
        except UnicodeEncodeError:  # as in the list of conversations
            line = self._encoder.encode((repr(later), repr(earlier)))
        self._stream.write(line + b"\n")

    def close(self) -> None:
        """Complete the file."""
        self._stream.close()


def read_near_links(data: bytes) -> dict[str, list[str]]:
    """Links as `formats.split` takes them."""
    decoder = msgspec.json.Decoder(tuple[str, str])
    links: dict[str, list[str]] = {}
    for line in gzip.decompress(data).splitlines():
        later, earlier = decoder.decode(line)
        links.setdefault(later, []).append(earlier)
    return links
