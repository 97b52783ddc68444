"""What tags and notes look like to clients."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from brightrun.web.text import STORABLE

MOST_TAGS = 10
_SPACES = re.compile(r"\s+")
_TAG = re.compile(r"[^\W_](?:[\w.:+-]*[\w+])?")


def _tag(value: str) -> str:
    """As it is kept: lower case, hyphens for spaces. `Client A` and `client-a` are one tag."""
    tag = _SPACES.sub("-", value.strip().lower())
    if not 1 <= len(tag) <= 30:
        raise ValueError("A tag has 1 to 30 characters")
    if not _TAG.fullmatch(tag):
        raise ValueError("A tag is made of letters, digits and - . _ : +, and begins with a letter or a digit")
    return tag


Tag = Annotated[str, StringConstraints(max_length=100), STORABLE, AfterValidator(_tag)]
NoteText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), STORABLE]


class TagsIn(BaseModel):
    """All tags of the job from now on."""

    model_config = ConfigDict(extra="forbid")

    tags: Annotated[list[Tag], Field(max_length=50)]


class TagsData(BaseModel):
    tags: list[str]


class TagOut(BaseModel):
    """jobs: how many have it."""

    tag: str
    jobs: int


class TagCountsData(BaseModel):
    tags: list[TagOut]


class NoteIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: NoteText


class NoteOut(BaseModel):
    """author: the e-mail of whoever wrote it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    text: str
    author: str
    created_by: UUID | None
    created_at: datetime


class NoteData(BaseModel):
    note: NoteOut


class NotesData(BaseModel):
    notes: list[NoteOut]
