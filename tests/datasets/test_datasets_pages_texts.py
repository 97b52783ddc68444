"""What the pages say of datasets, and the overview's steps: every case has its words."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from brightrun.accounts.roles import PERMISSIONS, Role
from brightrun.clock import utcnow
from brightrun.datasets import presentation
from brightrun.datasets.schemas import DatasetStats
from brightrun.datasets.tables import Dataset, DatasetStatus
from brightrun.formats.codes import CODES
from brightrun.formats.names import FORMAT_IDS
from brightrun.overview_pages import Step, next_steps
from brightrun.training.tables import JobStatus


def dataset(**values: Any) -> Dataset:
    defaults: dict[str, Any] = {
        "status": "ready",
        "training_ready": True,
        "format": "openai_messages",
        "file_size": 1000,
        "validated_bytes": 0,
        "validation_started_at": None,
        "deleted_at": None,
        "object_deleted_at": None,
        "error_code": None,
    }
    return Dataset(**(defaults | values))


def test_every_format_is_explained_with_an_example():
    assert set(presentation.FORMATS) == set(FORMAT_IDS)
    assert all(text.label and text.record and text.example for text in presentation.FORMATS.values())


def test_every_severity_of_the_catalogue_has_a_look():
    assert {code.severity for code in CODES.values()} <= set(presentation.SEVERITIES)


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("estimate:words×1.3", "estimated: words × 1.3"),
        ("estimate:characters/4", "estimated: characters/4"),
        ("exact:tiny", "exact: tiny"),
        ("none", None),
        (None, None),
    ],
)
def test_a_token_count_says_where_it_comes_from(source: str | None, note: str | None):
    assert presentation.tokens_note(source) == note


@pytest.mark.parametrize("status", list(DatasetStatus))
def test_whatever_cannot_be_trained_on_says_why(status: DatasetStatus):
    reason = presentation.why_not_trainable(dataset(status=status))
    assert (reason is None) == (status == DatasetStatus.READY)


@pytest.mark.parametrize("values", [{"training_ready": False}, {"format": "kto"}, {"deleted_at": utcnow()}])
def test_a_ready_dataset_can_still_be_not_trainable(values: dict[str, Any]):
    assert presentation.why_not_trainable(dataset(**values))


def test_a_check_under_way_tells_rate_and_time_left():
    started = utcnow() - timedelta(seconds=10)
    at = presentation.check_progress(dataset(status="validating", validated_bytes=250, validation_started_at=started))
    assert at.value == 0.25
    assert at.bytes_per_s == pytest.approx(25, rel=0.05)
    assert at.seconds_left == pytest.approx(30, rel=0.05)
    assert presentation.check_progress(dataset(status="validating")).value is None, "it has not begun"


def test_findings_are_grouped_worst_and_most_frequent_first():
    groups = presentation.issue_groups({"duplicate_record": 9, "empty_file": 1, "broken_json": 4})
    assert [group.name for group in groups] == ["broken_json", "empty_file", "duplicate_record"]
    assert presentation.severity_counts(groups) == {"error": 5, "warning": 9, "info": 0}
    assert presentation.issue_groups(None) == []


def test_cut_text_and_tool_calls_of_a_sample_are_shown_as_such():
    shown = presentation.shown_messages(
        [
            {"role": "user", "content": "long", "truncated": True},
            {"role": "assistant", "content": "", "trained": True, "tool_calls": '[{"name": "balance"}]'},
        ]
    )
    assert shown[0] == {"role": "user", "content": "long… (shortened here)", "trained": False}
    assert shown[1]["content"] == 'Calls a tool: [{"name": "balance"}]'
    assert shown[1]["trained"]


# --- the overview's steps -------------------------------------------------------------------------------------------


def steps(
    role: Role = Role.OWNER, *, datasets: Mapping[str, int] = {}, jobs: Mapping[str, int] = {}, models: int = 0
) -> list[Step]:
    by_status = {status: datasets.get(status, 0) for status in DatasetStatus}
    stats = DatasetStats(total=sum(by_status.values()), by_status=by_status, deleted=0, used_bytes=0, quota_bytes=None)
    counts = {status: jobs.get(status, 0) for status in JobStatus}
    return next_steps(stats, counts, models, permissions=PERMISSIONS[role])


@pytest.mark.parametrize(
    ("given", "states", "current"),
    [
        ({}, ["now", "todo", "todo", "todo"], 0),
        ({"datasets": {"uploading": 1}}, ["attention", "todo", "todo", "todo"], 0),
        ({"datasets": {"validating": 1}}, ["done", "now", "todo", "todo"], 1),
        ({"datasets": {"error": 1}}, ["done", "attention", "todo", "todo"], 1),
        ({"datasets": {"ready": 1}}, ["done", "done", "now", "todo"], 2),
        ({"datasets": {"ready": 1, "error": 1}}, ["done", "attention", "now", "todo"], 2),
        ({"datasets": {"ready": 1}, "jobs": {"running": 1}}, ["done", "done", "now", "todo"], 2),
        ({"datasets": {"ready": 1}, "jobs": {"failed": 1}}, ["done", "done", "attention", "todo"], 2),
        ({"datasets": {"ready": 1}, "jobs": {"completed": 1}, "models": 1}, ["done", "done", "done", "now"], 3),
    ],
)
def test_one_step_is_the_one_to_take_now(given: dict[str, Any], states: list[str], current: int):
    found = steps(**given)
    assert [step.state for step in found] == states
    assert [number for number, step in enumerate(found) if step.current] == [current]
    assert found[current].action


def test_a_step_that_the_role_may_not_take_has_no_button():
    assert steps(Role.VIEWER)[0].action is None
    assert steps(Role.VIEWER, datasets={"ready": 1})[2].action is None
    assert steps(Role.VIEWER, datasets={"ready": 1}, jobs={"running": 1})[2].action == "Watch"
