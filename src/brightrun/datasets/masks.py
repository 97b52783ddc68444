"""What a model learns from a row of a dataset, and which base models can show it."""

import asyncio
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.datasets.records import StoredRecord, read_record
from brightrun.errors import ConflictError, InvalidInputError, TooLargeError
from brightrun.formats import base_models
from brightrun.formats.base_models import BaseModel as Found
from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.mask import mask_of
from brightrun.formats.model_tokenizers import load_tokenizer
from brightrun.platform import Platform
from brightrun.settings import Settings

LONGEST_RECORD = 1 << 20
"""Bytes of a record whose tokens are still shown; longer ones are for `brightrun inspect`."""


class MaskToken(BaseModel):
    """trained: without a limit, this token would be learned. cut: the limit takes it away."""

    id: int
    text: str
    trained: bool
    cut: bool


class MaskOut(BaseModel):
    """Every token of a row; the texts, joined, are the chat as the model reads it (`formats.mask.Mask`).

    part, parts: which of how many records the row holds. side: of a preference pair, the answer shown.
    """

    line: int
    part: int
    parts: int
    side: str | None
    model: str
    max_length: int | None
    tokens: list[MaskToken]
    tokens_total: int
    tokens_kept: int
    trained_total: int
    trained_kept: int
    eot_trained: bool
    left_out: int
    template_sha256: str


class MaskData(BaseModel):
    mask: MaskOut


class BaseModelOut(BaseModel):
    """kind: builtin, folder or hub_cache. has_tokenizer, has_chat_template: without both it can show no mask."""

    name: str
    kind: str
    default: bool
    has_tokenizer: bool
    has_chat_template: bool


class BaseModelsData(BaseModel):
    base_models: list[BaseModelOut]


class NothingToShowError(ConflictError):
    """The row is there, but no mask can be made of it; the message says why."""

    code = "nothing_to_show"


async def mask_of_row(
    session: AsyncSession,
    platform: Platform,
    dataset_id: UUID,
    line: int,
    *,
    model: str | None = None,
    max_length: int | None = None,
    part: int = 1,
    side: str | None = None,
) -> MaskOut:
    """The mask of the row at a line, for a base model (None: the installation's default).

    Raises what `read_record` raises, InvalidInputError for a model without a usable tokenizer, TooLargeError,
    NothingToShowError for a row that is not learned from or that the model's chat template refuses.
    """
    found = await read_record(session, platform, dataset_id, line)
    name = model or platform.settings.default_base_model
    tokenizer = await asyncio.to_thread(tokenizer_of, platform.settings, name)
    return await asyncio.to_thread(mask_of_record, found, tokenizer, name, max_length=max_length, part=part, side=side)


def tokenizer_of(settings: Settings, name: str) -> ChatTokenizer:
    """Blocks. Raises InvalidInputError."""
    try:
        return load_tokenizer(name, settings.base_model_dir, allow_paths=False)
    except (ModelFolderError, ChatError, OSError) as error:
        raise InvalidInputError(
            f"The base model {name!r} cannot show tokens: {error}", details={"model": [str(error)]}
        ) from error


def mask_of_record(
    found: StoredRecord, tokenizer: ChatTokenizer, model: str, *, max_length: int | None, part: int, side: str | None
) -> MaskOut:
    """As `mask_of_row`; blocks."""
    if found.length > LONGEST_RECORD:
        raise TooLargeError(
            f"The row at line {found.line:,} is {found.length:,} bytes long; tokens are shown of rows up to "
            f"{LONGEST_RECORD:,}. Use `brightrun inspect` with the file."
        )
    if not found.records:
        raise NothingToShowError(f"Nothing is learned from line {found.line:,}: {_why_nothing(found.value)}")
    if part > len(found.records):
        raise InvalidInputError(f"The row holds {len(found.records)} records; there is no part {part}.")
    record = found.records[part - 1]
    try:
        mask = mask_of(tokenizer, record, max_length=max_length, side=side)
    except ChatError as error:
        raise NothingToShowError(
            f"The row at line {found.line:,} cannot be shown as {model} reads it: {error}", code=error.code
        ) from error
    except ValueError as error:
        raise InvalidInputError(str(error), details={"side": [str(error)]}) from error
    shown_side = (side or "chosen") if record.kind == "preference" else None
    return MaskOut(line=found.line, part=part, parts=len(found.records), side=shown_side, model=model, **mask)


def _why_nothing(value: Any) -> str:
    """Of a row from which no record was read."""
    if isinstance(value, dict) and "_meta" in value:
        return "it is the file's header, not a record."
    if isinstance(value, dict) and "target_response" in value and value["target_response"] is None:
        return "it is a user turn, which has no target."
    return "it has an error, which its findings name."


def available_models(settings: Settings) -> list[BaseModelOut]:
    """Every base model on this machine. Reads folders: call it in a thread."""
    return [_described(settings, model) for model in base_models.list_available(settings.base_model_dir)]


def _described(settings: Settings, model: Found) -> BaseModelOut:
    assert model.folder is not None  # `list_available` names only what is on the disk
    default = model.name == settings.default_base_model
    has_tokenizer = (model.folder / "tokenizer.json").is_file()
    has_template = False
    if has_tokenizer:
        try:
            load_tokenizer(model.name, settings.base_model_dir, allow_paths=False)
            has_template = True
        except (ModelFolderError, ChatError, OSError):
            pass
    return BaseModelOut(
        name=model.name, kind=model.kind, default=default, has_tokenizer=has_tokenizer, has_chat_template=has_template
    )


def runs_of(mask: MaskOut, limit: int) -> list[dict[str, Any]]:
    """The first `limit` tokens as stretches of one kind: `{trained, cut, tokens: [{id, text}]}`, for a page."""
    runs: list[dict[str, Any]] = []
    for token in mask.tokens[:limit]:
        if not runs or (runs[-1]["trained"], runs[-1]["cut"]) != (token.trained, token.cut):
            runs.append({"trained": token.trained, "cut": token.cut, "tokens": []})
        runs[-1]["tokens"].append({"id": token.id, "text": visible(token.text)})
    return runs


def visible(text: str) -> str:
    """Line ends and tabs stay; other characters that nobody would see are written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
