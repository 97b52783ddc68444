"""The result of a validation, as the command line prints it and the API answers it."""

from bisect import insort
from typing import Any

import msgspec
import orjson

from brightrun.formats.issues import Issue, later
from brightrun.validation.stretches import Found

ESTIMATE = "estimate:words×1.3"


class Report(msgspec.Struct):
    """All that was found, complete in its counts.

    lines: physical lines, blank ones included. records: without blank lines and `_meta`, good or bad. training_pairs:
    trained assistant messages (preference: pairs; KTO: answers). turns: messages other than the system's; of v4 pairs,
    which repeat their history, each turn once. tokens: of all messages of all records, as they would be read in
    training; None when nobody asked, `tokens_source` is then `none`. issues: the first ones in file order, errors
    before warnings before infos where not all have room. sample_data: the first three conversations, bounded in size.
    readiness: what blocks and what is advised (`readiness.readiness`). coverage: by persona, arc and topic, where the
    records name them (`Survey.coverage`). lengths: of records in tokens, where tokens were asked for: of
    their messages' texts, and with a model of the whole chat as it is rendered (`model_checks.Lengths`).
    thresholds: those that the checks of content applied.
    """

    file: str
    format: str | None
    format_reason: str
    lines: int
    records: int
    conversations: int
    training_pairs: int
    turns: int
    tokens: int | None
    tokens_source: str
    errors_total: int
    warnings_total: int
    by_code: dict[str, int]
    issues: list[Issue]
    issues_truncated: bool
    checks_run: list[str]
    checks_skipped: list[str]
    training_ready: bool
    null_targets: int = 0
    avg_turns_per_conversation: float | None = None
    avg_tokens_per_turn: float | None = None
    sample_data: list[dict[str, Any]] = []
    file_size: int = 0
    readiness: dict[str, Any] = {}
    coverage: dict[str, Any] | None = None
    lengths: dict[str, Any] | None = None
    thresholds: dict[str, float] = {}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def to_json(self) -> str:
        """One JSON object on one line."""
        return orjson.dumps(self.to_dict()).decode()


class IssueLog:
    """Counts every issue and keeps the first ones of each severity, by line.

    max_issues: how many are kept; None keeps all.
    """

    def __init__(self, max_issues: int | None) -> None:
        self._limit = max_issues
        self._kept: dict[str, list[tuple[int, int, Issue]]] = {"error": [], "warning": [], "info": []}
        self.by_code: dict[str, int] = {}
        self.totals = {"error": 0, "warning": 0, "info": 0}
        self._count = 0
        self.full: frozenset[str] = frozenset()
        """Severities of which no issue of a later line will be kept."""

    def add(self, issue: Issue) -> None:
        """Count an issue, and keep it where it is among the first of its severity. They may come in any order."""
        self.by_code[issue.code] = self.by_code.get(issue.code, 0) + 1
        self.totals[issue.severity] += 1
        self._count += 1
        if not issue.line:  # only to be counted
            return
        kept, entry = self._kept[issue.severity], (issue.line, self._count, issue)
        if self._limit is None:
            kept.append(entry)
        elif not kept or kept[-1] < entry:
            if len(kept) < self._limit:
                kept.append(entry)
            else:
                self.full |= {issue.severity}
        else:
            insort(kept, entry)
            del kept[self._limit :]

    @property
    def found(self) -> Found:
        """All that was counted and kept, to be merged elsewhere."""
        kept = {severity: [(order, issue) for _, order, issue in entries] for severity, entries in self._kept.items()}
        return Found(self.by_code, self.totals, kept)

    def merge(self, part: Found, lines_before: int) -> None:
        """Add the issues of the lines that follow `lines_before` others."""
        for code, number in part.by_code.items():
            self.by_code[code] = self.by_code.get(code, 0) + number
        for severity, entries in part.kept.items():
            self.totals[severity] += part.totals[severity]
            kept = self._kept[severity]
            for order, issue in entries[: None if self._limit is None else self._limit - len(kept)]:
                kept.append((issue.line + lines_before, self._count + order, later(issue, lines_before)))
        self._count += sum(part.totals.values())

    def kept(self) -> list[Issue]:
        """At most `max_issues`, in file order. Errors have precedence: many infos never hide one."""
        chosen: list[tuple[int, int, Issue]] = []
        for entries in self._kept.values():
            chosen += entries if self._limit is None else entries[: self._limit - len(chosen)]
        return [issue for _, _, issue in sorted(chosen, key=lambda entry: entry[:2])]

    @property
    def total(self) -> int:
        """All issues of all severities."""
        return sum(self.totals.values())
