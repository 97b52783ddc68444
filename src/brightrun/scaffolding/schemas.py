"""Bodies and answers of scaffolding's API."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from brightrun.scaffolding.pack import KEY_PATTERN, Tier
from brightrun.scaffolding.tables import Versioned

Key = Annotated[str, Field(pattern=KEY_PATTERN)]
Note = Annotated[str | None, Field(max_length=1000, description="Why; kept with the version")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ThingOut(BaseModel):
    """One version of a persona, arc, topic, template or pack head. content: as in the pack's file."""

    id: UUID
    pack: str
    key: str
    name: str
    version: int
    current: bool
    active: bool
    group: str | None
    tier: str | None
    arc: str | None
    content: dict[str, Any]
    note: str | None
    created_at: datetime
    created_by: UUID | None

    @classmethod
    def of(cls, row: Versioned) -> "ThingOut":
        return cls(
            id=row.thing_id,
            pack=row.pack_key,
            key=row.key,
            name=row.name,
            version=row.version,
            current=row.is_current,
            active=row.is_active,
            group=row.group_key,
            tier=row.tier,
            arc=row.arc_key,
            content=row.content,
            note=row.note,
            created_at=row.created_at,
            created_by=row.created_by,
        )


class ThingData(BaseModel):
    thing: ThingOut


class VersionsData(BaseModel):
    versions: list[ThingOut]


class ThingCreate(Body):
    pack: Key
    content: Annotated[dict[str, Any], Field(description="As an entry of the pack's file")]
    note: Note = None


class ThingEdit(Body):
    content: dict[str, Any]
    base_version: Annotated[int, Field(ge=1, description="The version that was edited; another one since is a 409")]
    note: Note = None


class DuplicateBody(Body):
    key: Key
    name: Annotated[str, Field(min_length=1, max_length=255)]


class PackOut(BaseModel):
    """things, active: how many of each kind."""

    id: UUID
    key: str
    name: str
    description: str
    pack_version: str
    version: int
    language: str
    consultant: str
    things: dict[str, int]
    active: dict[str, int]


class PacksData(BaseModel):
    packs: list[PackOut]


class LoadBody(Body):
    key: Annotated[Key, Field(description="A pack that comes with BrightRun")]


class LoadedOut(BaseModel):
    key: str
    name: str
    added: int
    changed: int
    unchanged: int


class LoadedData(BaseModel):
    loaded: LoadedOut


class CombinationBody(Body):
    pack: Key
    persona: Key
    arc: Key
    topic: Key
    tier: Tier | None = None


class ReasonOut(BaseModel):
    code: str
    penalty: float
    message: str


class AlternativeOut(BaseModel):
    key: str
    name: str
    points: int
    reasons: list[str]


class ChoiceOut(BaseModel):
    template: str
    name: str
    tier: Tier
    points: int
    explanation: str
    alternatives: list[AlternativeOut]


class CombinationOut(BaseModel):
    """score: 1 less every penalty; compatible: above 0.30. choice: null when no template serves: see `problem`."""

    score: float
    compatible: bool
    reasons: list[ReasonOut]
    choice: ChoiceOut | None
    problem: str | None


class CombinationData(BaseModel):
    combination: CombinationOut


class PreviewBody(CombinationBody):
    """template: a key of the pack, or `content`: a template as it is being edited."""

    template: Key | None = None
    content: dict[str, Any] | None = None
    replicate: Annotated[int, Field(ge=0, le=100_000)] = 0
    values: Annotated[
        dict[str, str | float | bool | list[str]], Field(default_factory=dict, description="For its own variables")
    ]


class PreviewOut(BaseModel):
    """What would be sent. variables: name → what was filled in."""

    system: str
    prompt: str
    template: str
    variables: dict[str, Any]


class PreviewData(BaseModel):
    preview: PreviewOut


class PlanBody(Body):
    pack: Key
    quotas: Annotated[dict[str, Any], Field(description="total, personas, arcs, topics, tiers, pairs, min_points")]
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0


class PlanItemOut(BaseModel):
    persona: str
    arc: str
    topic: str
    template: str
    tier: Tier
    replicate: int
    score: float


class ShortfallOut(BaseModel):
    what: str
    missing: int
    reason: str


class PlanOut(BaseModel):
    """The same for the same pack, quotas, seed and conversations that exist."""

    pack: str
    seed: int
    items: list[PlanItemOut]
    shortfalls: list[ShortfallOut]


class PlanData(BaseModel):
    plan: PlanOut


class CellOut(BaseModel):
    persona: str
    arc: str
    topics: int
    written: int
    accepted: int


class CoverageOut(BaseModel):
    pack: str
    cells: list[CellOut]


class CoverageData(BaseModel):
    coverage: CoverageOut
