"""How a dataset reads to a person: formats by their names, sources of numbers, findings by kind, what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from brightrun.clock import utcnow
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.formats.codes import CODES, Code
from brightrun.formats.names import FORMAT_IDS, TRAINED_LATER, FormatId

SEVERITIES: dict[str, tuple[str, str, Literal["danger", "warning", "info"], str]] = {
    "error": ("Error", "Errors", "danger", "circle-alert"),
    "warning": ("Warning", "Warnings", "warning", "triangle-alert"),
    "info": ("Note", "Notes", "info", "info"),
}
"""Severity → (one, many, tone, icon), worst first."""

"""Formats that are read and checked, and whose training methods are still to come."""


@dataclass(frozen=True)
class FormatText:
    """label: its name. record: what one record is, in plain words. example: one record, as it stands in a file."""

    label: str
    record: str
    example: str


FORMATS: dict[FormatId, FormatText] = {
    "openai_messages": FormatText(
        "OpenAI messages",
        "One conversation a line, as a list of messages. Most tools can export this.",
        '{"messages": [{"role": "user", "content": "What is slip?"}, '
        '{"role": "assistant", "content": "Clay and water, thin enough to pour."}]}',
    ),
    "brightrun_lora_v4": FormatText(
        "BrightRun LoRA v4",
        "One training pair a line: the conversation so far, the question and the expert's answer. Also as one JSON "
        "file of whole conversations.",
        '{"conversation_id": "c1", "system_prompt": "…", "conversation_history": [], '
        '"current_user_input": "What is slip?", "target_response": "Clay and water, thin enough to pour."}',
    ),
    "brightrun_lora_v3": FormatText(
        "BrightRun LoRA v3",
        "One conversation a line, as turns.",
        '{"conversation_id": "c1", "turns": [{"role": "user", "content": "What is slip?"}, '
        '{"role": "assistant", "content": "Clay and water, thin enough to pour."}]}',
    ),
    "sharegpt": FormatText(
        "ShareGPT",
        "One conversation a record, with the roles human and gpt.",
        '{"conversations": [{"from": "human", "value": "What is slip?"}, '
        '{"from": "gpt", "value": "Clay and water, thin enough to pour."}]}',
    ),
    "alpaca": FormatText(
        "Alpaca",
        "One instruction a record, with its answer.",
        '{"instruction": "Explain slip.", "input": "", "output": "Clay and water, thin enough to pour."}',
    ),
    "prompt_completion": FormatText(
        "Prompt and completion",
        "One text a record, and how it goes on.",
        '{"prompt": "What is slip?", "completion": "Clay and water, thin enough to pour."}',
    ),
    "preference": FormatText(
        "Preference pairs",
        "One question a record, with the better and the worse answer, for the method DPO.",
        '{"prompt": "What is slip?", "chosen": "Clay and water, thin enough to pour.", "rejected": "A mistake."}',
    ),
    "kto": FormatText(
        "Rated answers (KTO)",
        "One answer a record, marked good or bad. Checked today; training on it comes later.",
        '{"prompt": "What is slip?", "completion": "Clay and water, thin enough to pour.", "label": true}',
    ),
    "enriched_conversation": FormatText(
        "Enriched conversation",
        "One conversation as BrightRun's own enrichment writes it, with its metadata.",
        '{"dataset_metadata": {…}, "consultant_profile": {…}, "training_pairs": [{…}]}',
    ),
}


def format_label(name: str | None) -> str | None:
    """A format's name for people; None while it is not known."""
    return FORMATS[name].label if name in FORMAT_IDS else name


def format_options() -> list[tuple[str, str]]:
    """(id, name) of every format, for a select."""
    return [(name, text.label) for name, text in FORMATS.items()]


def tokens_note(source: str | None) -> str | None:
    """Where a number of tokens comes from: exact of a tokenizer, or an estimate and how it was made."""
    if source is None or source == "none":
        return None
    kind, _, how = source.partition(":")
    if kind == "estimate":
        return "estimated: words × 1.3" if how == "words×1.3" else f"estimated: {how}"
    return f"exact: {how}" if how else kind


def upload_unfinished(dataset: Dataset) -> bool:
    """Whether the upload can be gone on with, or cancelled."""
    incomplete = dataset.status == DatasetStatus.ERROR and dataset.error_code == "upload_incomplete"
    return dataset.object_deleted_at is None and (dataset.status == DatasetStatus.UPLOADING or incomplete)


def why_not_trainable(dataset: Dataset) -> str | None:
    """Why training cannot be started on it, as a sentence that says what to do; None when it can."""
    if dataset.deleted_at is not None:
        return "The dataset is in the trash. Restore it first."
    match DatasetStatus(dataset.status):
        case DatasetStatus.UPLOADING:
            return "The upload is not finished. Finish it first."
        case DatasetStatus.VALIDATING:
            return "The file is being checked. This takes seconds for most files."
        case DatasetStatus.ERROR:
            return "The file has errors. Correct them and upload it again, or validate it again."
        case DatasetStatus.READY:
            if not dataset.training_ready:
                return "The file holds nothing that a model would learn."
            if dataset.format in TRAINED_LATER:
                label = format_label(dataset.format)
                return f"Training on the format {label} comes in a later version. The dataset is kept and can be used."
            return None


def purge_time(dataset: Dataset, keep_days: int) -> datetime | None:
    """When a dataset in the trash is removed for good; None when it is not there."""
    return dataset.deleted_at + timedelta(days=keep_days) if dataset.deleted_at else None


@dataclass(frozen=True)
class CheckProgress:
    """How far a validation is. value: 0…1; None before it has begun."""

    value: float | None
    bytes_read: int
    bytes_per_s: float | None
    seconds_left: float | None


def check_progress(dataset: Dataset) -> CheckProgress:
    """From the row of a dataset that is being validated."""
    done, size, started = dataset.validated_bytes, dataset.file_size, dataset.validation_started_at
    if started is None:
        return CheckProgress(None, 0, None, None)
    seconds = (utcnow() - started).total_seconds()
    rate = done / seconds if done and seconds > 1 else None
    return CheckProgress(min(done / size, 1.0), done, rate, (size - done) / rate if rate else None)


@dataclass(frozen=True)
class IssueGroup:
    """All findings of one kind."""

    name: str
    count: int
    code: Code


def issue_groups(counts: dict[str, int] | None) -> list[IssueGroup]:
    """Findings by code: errors before warnings before notes, the most frequent first."""
    order = list(SEVERITIES)
    groups = [IssueGroup(name, count, CODES[name]) for name, count in (counts or {}).items()]
    return sorted(groups, key=lambda group: (order.index(group.code.severity), -group.count, group.name))


def severity_counts(groups: Sequence[IssueGroup]) -> dict[str, int]:
    """Severity → how many findings."""
    found = dict.fromkeys(SEVERITIES, 0)
    for group in groups:
        found[group.code.severity] += group.count
    return found


def dismissed_warnings(dismissed: dict[str, int]) -> int:
    """How many of the warnings are dismissed, from {code: how many}."""
    return sum(number for code, number in dismissed.items() if CODES[code].severity == "warning")


def code_title(name: str) -> str:
    return CODES[name].title


def query_of(values: dict[str, Any]) -> str:
    """`?a=1&b=2` of what has a value; empty when nothing has."""
    query = urlencode({name: value for name, value in values.items() if value not in {None, ""}})
    return f"?{query}" if query else ""


def record_href(dataset: Dataset, issue: Any, **kept: str) -> str:
    """The page of the record that an issue is about, at the issue's field. kept: the list's filters."""
    return f"/datasets/{dataset.id}/records/{issue.line}" + query_of({"path": issue.path, **kept})


def unit_of(layout: str) -> str:
    """What the number of a finding counts."""
    return {"lines": "line", "v4_full": "pair", "enriched_file": "pair"}.get(layout, "record")


def cells(coverage: dict[str, Any]) -> dict[tuple[str, str], int]:
    """How many conversations, by persona and arc."""
    return {(cell["persona"], cell["arc"]): cell["conversations"] for cell in coverage["grid"]}


def tallied(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names with counts, as `ui.tally` takes them."""
    return [{"name": entry["name"], "count": entry["conversations"]} for entry in entries]


def shown_messages(messages: Sequence[dict[str, Any]], *, trained: bool = True) -> list[dict[str, Any]]:
    """Messages of a sample as `ui.conversation` takes them: tool calls as text, and a mark where text was cut.

    trained: False for an answer that a model learns to avoid.
    """
    shown = []
    for message in messages:
        content = message.get("content") or ""
        if message.get("truncated"):
            content += "… (shortened here)"
        if message.get("tool_calls"):
            content = f"{content}\n\nCalls a tool: {message['tool_calls']}".strip()
        shown.append(
            {"role": message["role"], "content": content, "trained": trained and message.get("trained", False)}
        )
    return shown
