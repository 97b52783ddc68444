"""What a file is when it is not JSON text, told from its first bytes."""

import re

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (Word, Excel and many other documents are ZIP archives, too)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow table"),
    (b"Obj\x01", "an Avro table"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF model"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a media file (WebP, WAV or AVI)"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"\x7fELF", "a Linux program"),
    (b"MZ\x90", "a Windows program"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x80\x04\x95", "a Python pickle"),
)
_BYTE_ORDER_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def other_encoding(head: bytes) -> str | None:
    """`UTF-16` or `UTF-32` when the bytes are text in it, with or without byte order mark."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    if re.match(rb"(?:[\t\n\r -~]\x00){4}", head) or re.match(rb"(?:\x00[\t\n\r -~]){4}", head):
        return "UTF-16"
    return None


def binary_kind(head: bytes) -> str | None:
    """What the bytes look like when they are not text; None for text."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"ftyp":
        return "a video"
    if head.lstrip()[:1] in (b"{", b"["):
        return None  # JSON with a damaged byte in it: the line says where
    sample = head[:8192]
    if b"\x00" in sample:
        return "binary data"
    return None


def text_kind(head: bytes) -> tuple[str, str | None]:
    """What a text that is no JSON looks like, and advice where there is better than the catalogue's."""
    text = head[:8192].decode("utf-8", errors="replace").lstrip("\ufeff").lstrip()
    first, *rest = text.splitlines()[:2] or [""]
    if re.match(r"<!doctype html|<html", text, re.IGNORECASE):
        return "an HTML page", "Was a sign-in or error page saved instead of the file? Download the file again."
    if text.startswith("<"):
        return "XML or HTML", None
    for separator, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs")):
        columns = first.count(separator)
        if columns and rest and rest[0].count(separator) >= columns:
            kind = f"a table (CSV, {columns + 1} columns separated by {name})"
            return kind, "Export the table as JSON Lines: one object a line, with the column names as fields."
    if text.startswith(("---", "- ")) or re.match(r"[A-Za-z_]+:(\s|$)", first):
        return "YAML", "Convert the file to JSON Lines."
    return "plain text", "Write each example as a JSON object on a line of its own."
