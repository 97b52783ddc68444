"""Every call of the API as data, for both clients: method, path, body, and which part of the answer counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from brightrun.errors import BrightRunError, UnavailableError

Json = dict[str, Any]


class ApiError(BrightRunError):
    """The server refused. `status`, `code`, `message` and `details` are the server's own."""


@dataclass(frozen=True)
class Call:
    """pick: the field of `data` that is the answer; None for all of it. headers: beside the token. content: bytes."""

    method: str
    path: str
    json: Json | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    pick: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


def without_none(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


_PASSING = frozenset({502, 503, 504})


def passes(error: BrightRunError) -> bool:
    """Is this a server, or a proxy before it, that is not there now and may be in a moment?"""
    return isinstance(error, UnavailableError) or (isinstance(error, ApiError) and error.status in _PASSING)


def _id(value: str) -> str:
    """An id as one part of a path, whatever it holds."""
    return quote(str(value), safe="")


def read_answer(call: Call, status: int, body: Any) -> Any:
    """`data` of a success, or its `pick`ed field. Raises ApiError for our error shape and for anything else."""
    if status >= 400 or not isinstance(body, dict) or body.get("success") is not True:
        if isinstance(body, dict) and "error" in body:
            raise ApiError(
                str(body["error"]), code=str(body.get("code", "error")), details=body.get("details"), status=status
            )
        raise ApiError(f"the server answered {status} to {call.method} {call.path}", code="bad_answer", status=status)
    data = body["data"]
    return data[call.pick] if call.pick is not None else data


# --- datasets -------------------------------------------------------------------------------------------------------


def create_dataset(
    *,
    name: str,
    file_name: str,
    file_size: int,
    description: str | None = None,
    format: str | None = None,  # noqa: A002 (the API's own name)
    sha256: str | None = None,
) -> Call:
    body = without_none(
        name=name, file_name=file_name, file_size=file_size, description=description, format=format, sha256=sha256
    )
    return Call("POST", "/api/datasets", json=body)


def list_datasets(**filters: Any) -> Call:
    return Call("GET", "/api/datasets", params=without_none(**filters))


def get_dataset(dataset_id: str) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}", pick="dataset")


def update_dataset(dataset_id: str, **changes: Any) -> Call:
    return Call("PATCH", f"/api/datasets/{_id(dataset_id)}", json=changes, pick="dataset")


def confirm_dataset(dataset_id: str) -> Call:
    return Call("POST", f"/api/datasets/{_id(dataset_id)}/confirm", pick="dataset")


def delete_dataset(dataset_id: str) -> Call:
    return Call("DELETE", f"/api/datasets/{_id(dataset_id)}", pick="dataset")


def restore_dataset(dataset_id: str) -> Call:
    return Call("POST", f"/api/datasets/{_id(dataset_id)}/restore", pick="dataset")


def dataset_validation(dataset_id: str) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/validation", pick="validation")


def dataset_issues(dataset_id: str, **filters: Any) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/issues", params=without_none(**filters))


def dataset_issues_path(dataset_id: str, kind: str) -> str:
    return f"/api/datasets/{_id(dataset_id)}/issues/download?format={_id(kind)}"


def dataset_record(dataset_id: str, line: int) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/records/{int(line)}", pick="record")


def dataset_mask(dataset_id: str, line: int, **options: Any) -> Call:
    path = f"/api/datasets/{_id(dataset_id)}/records/{int(line)}/mask"
    return Call("GET", path, params=without_none(**options), pick="mask")


def dataset_split(dataset_id: str, **options: Any) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/split", params=without_none(**options), pick="split")


def dataset_dismissals(dataset_id: str) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/dismissals", pick="dismissals")


def dismiss_warning(
    dataset_id: str, *, code: str, reason: str, line: int | None = None, path: str | None = None
) -> Call:
    body = without_none(code=code, reason=reason, line=line, path=path)
    return Call("POST", f"/api/datasets/{_id(dataset_id)}/dismissals", json=body, pick="dismissals")


def take_dismissal_back(dataset_id: str, dismissal_id: str) -> Call:
    return Call("DELETE", f"/api/datasets/{_id(dataset_id)}/dismissals/{_id(dismissal_id)}", pick="dismissal")


def preview_repair(dataset_id: str, *, page: int = 1, limit: int = 25, **selection: Any) -> Call:
    params = {"page": page, "limit": limit}
    return Call("POST", f"/api/datasets/{_id(dataset_id)}/repair/preview", json=selection, params=params)


def repair_dataset(dataset_id: str, *, idempotency_key: str, **body: Any) -> Call:
    headers = {"Idempotency-Key": idempotency_key}
    path = f"/api/datasets/{_id(dataset_id)}/repair"
    return Call("POST", path, json=without_none(**body), headers=headers, pick="dataset")


def dataset_versions(dataset_id: str) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/versions", pick="versions")


def dataset_changes_path(dataset_id: str) -> str:
    return f"/api/datasets/{_id(dataset_id)}/changes/download"


def dataset_conversion(dataset_id: str, to: str) -> Call:
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/convert", params={"to": to}, pick="conversion")


def dataset_converted_path(dataset_id: str, to: str) -> str:
    return f"/api/datasets/{_id(dataset_id)}/convert/download?to={_id(to)}"


def dataset_upload(dataset_id: str) -> Call:
    """Fresh URLs of an upload that was begun, and what is stored of it."""
    return Call("GET", f"/api/datasets/{_id(dataset_id)}/upload")


# --- jobs -----------------------------------------------------------------------------------------------------------


def estimate_job(**body: Any) -> Call:
    return Call("POST", "/api/jobs/estimate", json=without_none(**body))


def create_job(*, idempotency_key: str, **body: Any) -> Call:
    headers = {"Idempotency-Key": idempotency_key}
    return Call("POST", "/api/jobs", json=without_none(**body), headers=headers, pick="job")


def list_templates(**filters: Any) -> Call:
    return Call("GET", "/api/training/templates", params=without_none(**filters))


def create_template(**body: Any) -> Call:
    return Call("POST", "/api/training/templates", json=without_none(**body), pick="template")


def delete_template(template_id: str) -> Call:
    return Call("DELETE", f"/api/training/templates/{_id(template_id)}", pick="template")


def diff_configurations(left: str, right: str) -> Call:
    return Call("GET", "/api/training/diff", params={"left": left, "right": right}, pick="diff")


def list_jobs(**filters: Any) -> Call:
    return Call("GET", "/api/jobs", params=without_none(**filters))


def get_job(job_id: str) -> Call:
    return Call("GET", f"/api/jobs/{_id(job_id)}", pick="job")


def cancel_job(
    job_id: str, *, reason: str | None = None, note: str | None = None, checkpoint: bool | None = None
) -> Call:
    body = without_none(reason=reason, note=note, checkpoint=checkpoint)
    return Call("POST", f"/api/jobs/{_id(job_id)}/cancel", json=body, pick="job")


def pause_job(job_id: str) -> Call:
    return Call("POST", f"/api/jobs/{_id(job_id)}/pause", pick="job")


def resume_job(
    job_id: str,
    *,
    checkpoint_step: int | None = None,
    hyperparameters: dict[str, Any] | None = None,
    max_cost_usd: str | None = None,
    budget_override_reason: str | None = None,
) -> Call:
    body = without_none(
        checkpoint_step=checkpoint_step,
        hyperparameters=hyperparameters,
        max_cost_usd=max_cost_usd,
        budget_override_reason=budget_override_reason,
    )
    return Call("POST", f"/api/jobs/{_id(job_id)}/resume", json=body, pick="job")


def retry_job(job_id: str, *, apply_fix: bool = False) -> Call:
    return Call("POST", f"/api/jobs/{_id(job_id)}/retry", json={"apply_fix": apply_fix}, pick="job")


def set_job_priority(job_id: str, priority: str, *, reason: str | None = None) -> Call:
    body = without_none(priority=priority, reason=reason)
    return Call("POST", f"/api/jobs/{_id(job_id)}/priority", json=body, pick="job")


def compare_jobs(ids: Sequence[str], *, points: int | None = None) -> Call:
    return Call("GET", "/api/jobs/compare", params=without_none(ids=list(ids), points=points), pick="comparison")


def act_on_jobs(action: str, ids: Sequence[str], **options: Any) -> Call:
    body = {"action": action, "ids": list(ids)} | without_none(**options)
    return Call("POST", "/api/jobs/bulk", json=body, pick="bulk")


def job_tags() -> Call:
    return Call("GET", "/api/jobs/tags", pick="tags")


def set_job_tags(job_id: str, tags: Sequence[str]) -> Call:
    return Call("PUT", f"/api/jobs/{_id(job_id)}/tags", json={"tags": list(tags)}, pick="tags")


def job_notes(job_id: str) -> Call:
    return Call("GET", f"/api/jobs/{_id(job_id)}/notes", pick="notes")


def add_job_note(job_id: str, text: str) -> Call:
    return Call("POST", f"/api/jobs/{_id(job_id)}/notes", json={"text": text}, pick="note")


def job_queue() -> Call:
    return Call("GET", "/api/jobs/queue", pick="queue")


def job_metrics(job_id: str, *, points: int | None = None) -> Call:
    return Call("GET", f"/api/jobs/{_id(job_id)}/metrics", params=without_none(points=points))


# --- costs ----------------------------------------------------------------------------------------------------------


# --- conversations and their batches -------------------------------------------------------------------------------


def quote_batch(**body: Any) -> Call:
    """body: plan, via."""
    return Call("POST", "/api/batch-jobs/quote", json=without_none(**body), pick="quote")


def create_batch(*, idempotency_key: str, **body: Any) -> Call:
    """body: plan, via, name, concurrency, max_cost_usd, max_attempts, error_handling, priority."""
    return Call(
        "POST", "/api/batch-jobs", json=without_none(**body), headers={"Idempotency-Key": idempotency_key}, pick="batch"
    )


def list_batches(**filters: Any) -> Call:
    return Call("GET", "/api/batch-jobs", params=without_none(**filters))


def get_batch(batch_id: str) -> Call:
    return Call("GET", f"/api/batch-jobs/{_id(batch_id)}", pick="batch")


def batch_items(batch_id: str, **filters: Any) -> Call:
    return Call("GET", f"/api/batch-jobs/{_id(batch_id)}/items", params=without_none(**filters))


def batch_log(batch_id: str, **filters: Any) -> Call:
    return Call("GET", f"/api/batch-jobs/{_id(batch_id)}/log", params=without_none(**filters))


def pause_batch(batch_id: str) -> Call:
    return Call("POST", f"/api/batch-jobs/{_id(batch_id)}/pause", json={}, pick="batch")


def resume_batch(batch_id: str, **body: Any) -> Call:
    return Call("POST", f"/api/batch-jobs/{_id(batch_id)}/resume", json=without_none(**body), pick="batch")


def cancel_batch(batch_id: str) -> Call:
    return Call("POST", f"/api/batch-jobs/{_id(batch_id)}/cancel", json={}, pick="batch")


def retry_batch(batch_id: str, **body: Any) -> Call:
    return Call("POST", f"/api/batch-jobs/{_id(batch_id)}/retry", json=without_none(**body))


def list_failed_generations(**filters: Any) -> Call:
    return Call("GET", "/api/failed-generations", params=without_none(**filters))


def get_failed_generation(failure_id: str) -> Call:
    return Call("GET", f"/api/failed-generations/{_id(failure_id)}", pick="failure")


def list_conversations(**filters: Any) -> Call:
    return Call("GET", "/api/conversations", params=without_none(**filters))


def get_conversation(conversation_id: str) -> Call:
    return Call("GET", f"/api/conversations/{_id(conversation_id)}", pick="conversation")


def costs(**filters: Any) -> Call:
    return Call("GET", "/api/costs", params=without_none(**filters), pick="costs")


def budget() -> Call:
    return Call("GET", "/api/budget", pick="budget")


def set_budget(monthly_limit_usd: str | None, *, reason: str | None = None) -> Call:
    body = {"monthly_limit_usd": monthly_limit_usd, "reason": reason}
    return Call("PUT", "/api/budget", json=body, pick="budget")


# --- models ---------------------------------------------------------------------------------------------------------


def list_models(**filters: Any) -> Call:
    return Call("GET", "/api/models", params=without_none(**filters))


def get_model(model_id: str) -> Call:
    return Call("GET", f"/api/models/{_id(model_id)}", pick="model")


def model_download_path(model_id: str) -> str:
    return f"/api/models/{_id(model_id)}/download"


# --- account --------------------------------------------------------------------------------------------------------


def me() -> Call:
    return Call("GET", "/api/me")


# --- scaffolding ----------------------------------------------------------------------------------------------------


def list_packs() -> Call:
    return Call("GET", "/api/packs", pick="packs")


def list_scaffolding(kind: str, **filters: Any) -> Call:
    return Call("GET", f"/api/scaffolding/{_id(kind)}", params=without_none(**filters))


def pack_export_path(key: str) -> str:
    return f"/api/packs/export?pack={_id(key)}"


def import_pack(archive: bytes) -> Call:
    return Call(
        "POST", "/api/packs/import", content=archive, headers={"Content-Type": "application/zip"}, pick="loaded"
    )


def draw_plan(pack: str, quotas: Json, seed: int) -> Call:
    return Call("POST", "/api/packs/plan", json={"pack": pack, "quotas": quotas, "seed": seed}, pick="plan")
