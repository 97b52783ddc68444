"""A model's whole part in one validation: exact counts, its checks, and the memory of both."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from brightrun.formats.chat import ChatTokenizer
from brightrun.formats.records import Record
from brightrun.formats.token_cache import TokenCache
from brightrun.validation.checks import ComparingCheck, LateRemark, Reread
from brightrun.validation.model_checks import ModelCheck, WholeFileCheck
from brightrun.validation.report import Report


@dataclass(frozen=True, slots=True)
class Memory:
    """Where results are kept. content_sha256: of the file that is validated; tokenizer_sha256: of the model's files."""

    cache: TokenCache
    content_sha256: str
    tokenizer_sha256: str


class ModelView:
    """How one model sees one file.

    model: the name that the report shows. max_length: tokens, None to ask nothing about length. lengths_only: count
    and measure, but leave the template's refusals unsaid (where the model is not the one that will be trained).
    memory: None keeps nothing. data_format: that the file must have; another one may read it otherwise.

    Hand `arguments()` to `validate`, and its report to `complete`.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        model: str,
        *,
        max_length: int | None = None,
        lengths_only: bool = False,
        memory: Memory | None = None,
        data_format: str = "auto",
    ) -> None:
        self._tokenizer, self._model, self._memory = tokenizer, model, memory
        self._check = ModelCheck(tokenizer, model, max_length=max_length, lengths_only=lengths_only)
        self._key: tuple[object, ...] = (model, max_length, lengths_only, data_format)
        self._known = None if memory is None else memory.cache.get(*self._whole_key(memory))

    @property
    def remembered(self) -> bool:
        """Whether nothing needs counting: this file was seen by this model before."""
        return self._known is not None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `validate`."""
        if self._known is not None:
            remarks = msgspec.convert(self._known["remarks"], list[LateRemark])
            return {"comparing_checks": [_Remembered(self._check.names, remarks)]}
        return {
            "count_tokens": self._tokenizer.count,
            "tokens_source": f"exact:{self._model}",
            "record_checks": [self._check],
            "comparing_checks": [WholeFileCheck(self._check)],
        }

    def complete(self, report: Report, *, content_sha256: str | None = None) -> None:
        """Add to the report what the model found; keep it for the next time.

        content_sha256: of what was read, where it may be other than what was announced: then nothing is kept.
        """
        if self._known is not None:
            report.tokens, report.avg_tokens_per_turn = self._known["tokens"], self._known["avg_tokens_per_turn"]
            report.tokens_source, report.lengths = f"exact:{self._model}", self._known["lengths"]
            return
        report.lengths = self._check.lengths()
        memory, remarks = self._memory, self._check.said
        if memory is None or remarks is None or content_sha256 not in {None, memory.content_sha256}:
            return
        value = {
            "tokens": report.tokens,
            "avg_tokens_per_turn": report.avg_tokens_per_turn,
            "lengths": report.lengths,
            "remarks": msgspec.to_builtins(remarks),
        }
        memory.cache.put(value, *self._whole_key(memory))

    def _whole_key(self, memory: Memory) -> tuple[object, ...]:
        return (memory.content_sha256, memory.tokenizer_sha256, *self._key)


class _Remembered(ComparingCheck):
    """Says again what was said about the same file before."""

    def __init__(self, names: tuple[str, ...], remarks: list[LateRemark]) -> None:
        self._names, self._remarks = names, remarks

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def look(self, record: Record) -> None:
        """Nothing to note."""

    def finish(self, reread: Reread | None) -> Iterable[LateRemark]:
        return self._remarks
