"""Text that people send: what PostgreSQL can store, and what fits on one line of a page."""

import unicodedata

from pydantic import AfterValidator


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    return text


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not contain control characters or line breaks")
    return text


STORABLE = AfterValidator(_storable)
"""Any text but NUL, which PostgreSQL cannot keep. In an `Annotated[str, …]` put it after the other constraints."""

ONE_LINE = AfterValidator(_one_line)
"""No control characters, NUL and line breaks among them: a name. Put it after the other constraints."""


def plain_cell(text: str) -> str:
    """A spreadsheet takes a text that begins like a formula for one; an apostrophe makes it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
