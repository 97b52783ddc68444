"""Packs and what they hold, each in versions: an edit writes a new row, and what was used stays readable."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from brightrun.db.base import Base, HasId, InWorkspace


class Kind(StrEnum):
    """What a pack holds. The value is the word in addresses. `PACK` is the head: profile, safety, system part."""

    PACK = "packs"
    PERSONA = "personas"
    ARC = "emotional-arcs"
    TOPIC = "training-topics"
    TEMPLATE = "templates"


class Versioned(HasId, InWorkspace):
    """One version of one thing of a pack.

    thing_id: the same for all its versions; what addresses and other tables name. key: unique in the pack, never
    changed. version: from 1. is_current: the newest version. is_active: whether anything is written with it; part of
    the content, so that switching it off is a version, too. content: the whole thing, as in the pack's file.
    name, group_key, tier, arc_key: of the content, for lists. note: why it was changed.
    """

    __tablename__: str

    thing_id: Mapped[UUID]
    pack_key: Mapped[str]
    key: Mapped[str]
    version: Mapped[int]
    is_current: Mapped[bool]
    is_active: Mapped[bool]
    name: Mapped[str]
    group_key: Mapped[str | None]
    tier: Mapped[str | None]
    arc_key: Mapped[str | None]
    content: Mapped[dict[str, Any]]
    note: Mapped[str | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @declared_attr.directive
    def __table_args__(cls) -> tuple[Any, ...]:  # noqa: N805 - SQLAlchemy calls it with the class
        table = cls.__tablename__
        return (
            CheckConstraint("version > 0", name="version"),
            CheckConstraint("key ~ '^[a-z0-9][a-z0-9_]{0,63}$'", name="key"),
            UniqueConstraint("workspace_id", "pack_key", "key", "version"),
            UniqueConstraint("workspace_id", "thing_id", "version"),
            Index(
                f"{table}_current_key",
                "workspace_id",
                "pack_key",
                "key",
                unique=True,
                postgresql_where=text("is_current"),
            ),
            Index(f"{table}_created_by_idx", "created_by", postgresql_where=text("created_by is not null")),
        )


class PackRow(Versioned, Base):
    __tablename__ = "packs"


class PersonaRow(Versioned, Base):
    __tablename__ = "personas"


class ArcRow(Versioned, Base):
    __tablename__ = "emotional_arcs"


class TopicRow(Versioned, Base):
    __tablename__ = "training_topics"


class TemplateRow(Versioned, Base):
    __tablename__ = "prompt_templates"


TABLES: dict[Kind, type[Versioned]] = {
    Kind.PACK: PackRow,
    Kind.PERSONA: PersonaRow,
    Kind.ARC: ArcRow,
    Kind.TOPIC: TopicRow,
    Kind.TEMPLATE: TemplateRow,
}
