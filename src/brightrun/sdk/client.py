"""BrightRun from Python.

    from brightrun.sdk import Client

    with Client("http://127.0.0.1:8321", token="br_…") as client:
        dataset = client.datasets.upload("conversations.jsonl")
        job = client.jobs.create(dataset_id=dataset["id"], preset_id="balanced")
        job = client.jobs.wait(job["id"])
        client.models.download(job["model_id"], "adapter.zip")

Answers are the API's own objects (dictionaries; see docs/reference/openapi.json). A refusal raises `ApiError`.
Waiting follows the server's event stream, so it ends when the thing happens, not at the next poll.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx2

from brightrun.errors import BrightRunError, InvalidInputError, UnavailableError
from brightrun.sdk import calls
from brightrun.sdk.calls import ApiError, Call, Json, read_answer
from brightrun.storage.upload_client import UploadTarget, upload_file

DEFAULT_URL = "http://127.0.0.1:8321"
DATASET_SETTLED = frozenset({"ready", "error"})
JOB_SETTLED = frozenset({"completed", "failed", "cancelled"})
Progress = Callable[[int, int], None]


def from_environment(url: str | None, token: str | None) -> tuple[str, str]:
    """(url, token) given, or from BRIGHTRUN_URL and BRIGHTRUN_TOKEN."""
    url = url or os.environ.get("BRIGHTRUN_URL") or DEFAULT_URL
    token = token or os.environ.get("BRIGHTRUN_TOKEN")
    if not token:
        raise InvalidInputError(
            "No API token: give one with --token or BRIGHTRUN_TOKEN. `brightrun up` prints one, and the page "
            "Settings → API tokens makes others"
        )
    return url.strip().rstrip("/"), token.strip()


class Client:
    """A connection to one BrightRun server, acting in the token's workspace. Close it, or use it as a context."""

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60.0) -> None:
        self.url, token = from_environment(url, token)
        self._http = httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_s)
        self.datasets = Datasets(self)
        self.jobs = Jobs(self)
        self.batches = Batches(self)
        self.conversations = Conversations(self)
        self.costs = Costs(self)
        self.models = Models(self)
        self.packs = Packs(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call) -> Any:
        """Send one call. Raises ApiError for a refusal, UnavailableError when nobody answers."""
        try:
            response = self._http.request(
                call.method,
                call.path,
                json=call.json,
                content=call.content,
                params=dict(call.params),
                headers=dict(call.headers),
            )
        except httpx2.TransportError as error:
            raise UnavailableError(f"no answer from {self.url}: {error}. Is `brightrun up` running?") from error
        return read_answer(call, response.status_code, answer_body(response))

    def me(self) -> Json:
        answer: Json = self.send(calls.me())
        return answer

    @contextmanager
    def events(self, *topics: str) -> Iterator[Iterator[Json]]:
        """Live events `{"id", "kind", "data"}` on `topics`; they end when the server does."""
        with self._http.stream(
            "GET", "/api/events", params={"topics": ",".join(topics)}, timeout=httpx2.Timeout(60.0, read=60.0)
        ) as response:
            if response.status_code != 200:
                response.read()
                read_answer(Call("GET", "/api/events"), response.status_code, answer_body(response))
            yield parse_events(response.iter_lines())

    def wait_for(
        self, get: Call, topic: str, settled: frozenset[str], on_change: Callable[[Json], None] | None
    ) -> Json:
        """The thing, once its status is one of `settled`. Survives a server that restarts meanwhile."""
        quiet = 0
        while True:
            try:
                with self.events(topic) as stream:
                    thing: Json = self.send(get)  # After subscribing: nothing falls between the two.
                    quiet = 0
                    if on_change is not None:
                        on_change(thing)
                    if thing["status"] in settled:
                        return thing
                    for _event in stream:
                        thing = self.send(get)
                        if on_change is not None:
                            on_change(thing)
                        if thing["status"] in settled:
                            return thing
                _pause(0.2)  # The server ended the stream: it restarts.
            except (httpx2.TransportError, BrightRunError) as error:
                if isinstance(error, BrightRunError) and not calls.passes(error):
                    raise
                quiet += 1
                if quiet > 60:
                    raise UnavailableError(f"{self.url} has not answered for a minute: {error}") from error
                _pause(1.0)

    def download(self, path: str, target: Path, progress: Progress | None = None) -> Path:
        """Stream an answer into `target`, which appears whole or not at all.

        Raises ApiError for a refusal, UnavailableError when the connection breaks off.
        """
        aside = target.with_name(f".{target.name}.{uuid4().hex}.part")
        try:
            with self._http.stream("GET", path, follow_redirects=True) as response:
                if response.status_code != 200:
                    response.read()
                    read_answer(Call("GET", path), response.status_code, answer_body(response))
                total, done = int(response.headers.get("content-length", 0)), 0
                with aside.open("wb") as stream:
                    for chunk in response.iter_bytes(1 << 20):
                        stream.write(chunk)
                        done += len(chunk)
                        if progress is not None:
                            progress(done, total)
            aside.replace(target)
        except httpx2.TransportError as error:
            raise UnavailableError(f"the download from {self.url} broke off: {error}. Start it again") from error
        finally:
            aside.unlink(missing_ok=True)
        return target


def _pause(seconds: float) -> None:
    import threading

    threading.Event().wait(seconds)


def answer_body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def parse_events(lines: Iterator[str]) -> Iterator[Json]:
    """Server-sent events from the lines of a stream; pings are left out."""
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in event:
                yield {"id": event.get("id"), "kind": event.get("event", "message"), "data": json.loads(event["data"])}
            event = {}
            continue
        field, _, value = line.partition(":")
        if field in {"id", "event", "data"}:
            value = value.removeprefix(" ")
            event[field] = f"{event[field]}\n{value}" if field == "data" and "data" in event else value


class Datasets:
    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, **fields: Any) -> Json:
        """`{dataset, uploadUrl, storagePath, multipart}`; fields as `calls.create_dataset`."""
        answer: Json = self._client.send(calls.create_dataset(**fields))
        return answer

    def upload(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        description: str | None = None,
        format: str | None = None,  # noqa: A002
        progress: Progress | None = None,
        resume: str | None = None,
        parallel: int = 4,
    ) -> Json:
        """Create (or go on with the dataset `resume`), upload and confirm; the dataset, now being validated."""
        path = Path(path)
        if resume is None:
            made = self.create(
                name=name or path.name,
                description=description,
                format=format,
                file_name=path.name,
                file_size=path.stat().st_size,
            )
            dataset_id = made["dataset"]["id"]
        else:
            made, dataset_id = self._client.send(calls.dataset_upload(resume)), resume

        def renew() -> UploadTarget:
            return UploadTarget.from_json(self._client.send(calls.dataset_upload(dataset_id)))

        upload_file(path, UploadTarget.from_json(made), progress=progress, parallel=parallel, renew=renew)
        return self.confirm(dataset_id)

    def list(self, **filters: Any) -> Json:
        """`{items, total, page, limit}`; filters: page, limit, status, search, format, sort."""
        answer: Json = self._client.send(calls.list_datasets(**filters))
        return answer

    def get(self, dataset_id: str) -> Json:
        answer: Json = self._client.send(calls.get_dataset(dataset_id))
        return answer

    def update(self, dataset_id: str, **changes: Any) -> Json:
        answer: Json = self._client.send(calls.update_dataset(dataset_id, **changes))
        return answer

    def confirm(self, dataset_id: str) -> Json:
        answer: Json = self._client.send(calls.confirm_dataset(dataset_id))
        return answer

    def delete(self, dataset_id: str) -> Json:
        answer: Json = self._client.send(calls.delete_dataset(dataset_id))
        return answer

    def restore(self, dataset_id: str) -> Json:
        answer: Json = self._client.send(calls.restore_dataset(dataset_id))
        return answer

    def validation(self, dataset_id: str) -> Json:
        """The validator's report: counts, readiness, coverage, lengths, and the first 1,000 issues."""
        answer: Json = self._client.send(calls.dataset_validation(dataset_id))
        return answer

    def issues(self, dataset_id: str, **filters: Any) -> Json:
        """One page of all issues: page, limit, code, severity, line, dismissed."""
        answer: Json = self._client.send(calls.dataset_issues(dataset_id, **filters))
        return answer

    def download_issues(
        self,
        dataset_id: str,
        target: str | Path,
        *,
        format: str = "jsonl",  # noqa: A002
        progress: Progress | None = None,
    ) -> Path:
        """Every issue, as `jsonl` or `csv`, into a file that appears whole or not at all."""
        return self._client.download(calls.dataset_issues_path(dataset_id, format), Path(target), progress)

    def record(self, dataset_id: str, line: int) -> Json:
        """One record of the file: its text, what was read from it, its issues."""
        answer: Json = self._client.send(calls.dataset_record(dataset_id, line))
        return answer

    def mask(self, dataset_id: str, line: int, **options: Any) -> Json:
        """Which tokens of a record a model learns: model, max_length, part, side."""
        answer: Json = self._client.send(calls.dataset_mask(dataset_id, line, **options))
        return answer

    def split(self, dataset_id: str, **options: Any) -> Json:
        """Which conversations a job would hold out: fraction, seed, page, limit."""
        answer: Json = self._client.send(calls.dataset_split(dataset_id, **options))
        return answer

    def dismissals(self, dataset_id: str) -> Any:
        """Warnings that were dismissed, newest first: a list."""
        return self._client.send(calls.dataset_dismissals(dataset_id))

    def dismiss(
        self, dataset_id: str, *, code: str, reason: str, line: int | None = None, path: str | None = None
    ) -> Any:
        """Let a warning stand: one place, or without `line` all of its code. The dismissals."""
        return self._client.send(calls.dismiss_warning(dataset_id, code=code, reason=reason, line=line, path=path))

    def take_back(self, dataset_id: str, dismissal_id: str) -> Json:
        """The warning counts again."""
        answer: Json = self._client.send(calls.take_dismissal_back(dataset_id, dismissal_id))
        return answer

    def preview_repair(self, dataset_id: str, **selection: Any) -> Json:
        """Before and after of what would be mended: all, codes, issues; page, limit. Nothing given: everything."""
        answer: Json = self._client.send(calls.preview_repair(dataset_id, **selection))
        return answer

    def repair(self, dataset_id: str, *, idempotency_key: str | None = None, **body: Any) -> Json:
        """The new version, being made: all, codes, issues, name. The same `idempotency_key` never makes two."""
        key = idempotency_key or uuid4().hex
        answer: Json = self._client.send(calls.repair_dataset(dataset_id, idempotency_key=key, **body))
        return answer

    def versions(self, dataset_id: str) -> Any:
        """All versions of a dataset, the first first: a list."""
        return self._client.send(calls.dataset_versions(dataset_id))

    def download_changes(self, dataset_id: str, target: str | Path, **options: Any) -> Path:
        """The log of every change that made this version, JSON Lines. options: progress."""
        return self._client.download(calls.dataset_changes_path(dataset_id), Path(target), **options)

    def conversion(self, dataset_id: str, to: str) -> Json:
        """What the file in another format would hold, and what it would not."""
        answer: Json = self._client.send(calls.dataset_conversion(dataset_id, to))
        return answer

    def download_converted(self, dataset_id: str, to: str, target: str | Path, **options: Any) -> Path:
        """The file in another format, JSON Lines. options: progress."""
        return self._client.download(calls.dataset_converted_path(dataset_id, to), Path(target), **options)

    def wait(self, dataset_id: str, on_change: Callable[[Json], None] | None = None) -> Json:
        """The dataset, once it is `ready` or in `error`."""
        call, topic = calls.get_dataset(dataset_id), f"dataset:{dataset_id}"
        return self._client.wait_for(call, topic, DATASET_SETTLED, on_change)


class Jobs:
    def __init__(self, client: Client) -> None:
        self._client = client

    def estimate(self, **body: Any) -> Json:
        answer: Json = self._client.send(calls.estimate_job(**body))
        return answer

    def create(self, *, idempotency_key: str | None = None, **body: Any) -> Json:
        """Start training; the same `idempotency_key` never starts it twice."""
        answer: Json = self._client.send(calls.create_job(idempotency_key=idempotency_key or uuid4().hex, **body))
        return answer

    def list(self, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.list_jobs(**filters))
        return answer

    def get(self, job_id: str) -> Json:
        answer: Json = self._client.send(calls.get_job(job_id))
        return answer

    def cancel(self, job_id: str, **options: Any) -> Json:
        """options: reason, note, checkpoint (false: stop at the next step, without saving)."""
        answer: Json = self._client.send(calls.cancel_job(job_id, **options))
        return answer

    def pause(self, job_id: str) -> Json:
        answer: Json = self._client.send(calls.pause_job(job_id))
        return answer

    def resume(self, job_id: str, **options: Any) -> Json:
        """options: checkpoint_step, hyperparameters (that do not change the result), max_cost_usd."""
        answer: Json = self._client.send(calls.resume_job(job_id, **options))
        return answer

    def retry(self, job_id: str, *, apply_fix: bool = False) -> Json:
        """apply_fix: with the change in the job's `failure.fix`; the answer may be a new job then."""
        answer: Json = self._client.send(calls.retry_job(job_id, apply_fix=apply_fix))
        return answer

    def templates(self, **filters: Any) -> Json:
        """Saved configurations; `template_id` in `create` starts a job with one."""
        answer: Json = self._client.send(calls.list_templates(**filters))
        return answer

    def save_template(self, *, name: str, **body: Any) -> Json:
        """body: job_id, or the configuration itself as in `create`."""
        answer: Json = self._client.send(calls.create_template(name=name, **body))
        return answer

    def delete_template(self, template_id: str) -> Json:
        answer: Json = self._client.send(calls.delete_template(template_id))
        return answer

    def diff(self, left: str, right: str) -> Json:
        """What tells two configurations apart, each `job:ID` or `template:ID`."""
        answer: Json = self._client.send(calls.diff_configurations(left, right))
        return answer

    def set_priority(self, job_id: str, priority: str, *, reason: str | None = None) -> Json:
        """priority: low, normal or high (high is for owners and admins). The job."""
        answer: Json = self._client.send(calls.set_job_priority(job_id, priority, reason=reason))
        return answer

    def compare(self, ids: Sequence[str], *, points: int | None = None) -> Json:
        """Two to four runs: `runs`, `lines` (what differs first), and of every pair whether a difference is proven."""
        answer: Json = self._client.send(calls.compare_jobs(ids, points=points))
        return answer

    def bulk(self, action: str, ids: Sequence[str], **options: Any) -> Json:
        """One thing done to many jobs: cancel, pause, resume, retry, tag, untag, priority, archive or unarchive.

        options: reason, note, checkpoint, tags, priority. `results` says of each job what became of it.
        """
        answer: Json = self._client.send(calls.act_on_jobs(action, ids, **options))
        return answer

    def tags(self) -> Any:
        """The tags that jobs have, each with how many."""
        return self._client.send(calls.job_tags())

    def set_tags(self, job_id: str, tags: Sequence[str]) -> Any:
        """These and no others; the tags as they are kept."""
        return self._client.send(calls.set_job_tags(job_id, tags))

    def notes(self, job_id: str) -> Any:
        """The newest first."""
        return self._client.send(calls.job_notes(job_id))

    def add_note(self, job_id: str, text: str) -> Json:
        answer: Json = self._client.send(calls.add_job_note(job_id, text))
        return answer

    def queue(self) -> Json:
        """The jobs that wait, in order, each with `position` and `start_estimate`; and what there is to run them."""
        answer: Json = self._client.send(calls.job_queue())
        return answer

    def metrics(self, job_id: str, *, points: int | None = None) -> Json:
        answer: Json = self._client.send(calls.job_metrics(job_id, points=points))
        return answer

    def wait(self, job_id: str, on_change: Callable[[Json], None] | None = None) -> Json:
        """The job, once it is completed, failed or cancelled."""
        return self._client.wait_for(calls.get_job(job_id), f"job:{job_id}", JOB_SETTLED, on_change)


BATCH_SETTLED = frozenset({"completed", "failed", "cancelled", "paused"})


class Batches:
    """Conversations written in batches."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def quote(self, plan: Json, *, via: str = "sync") -> Json:
        """What a plan will cost; nothing is sent."""
        answer: Json = self._client.send(calls.quote_batch(plan=plan, via=via))
        return answer

    def create(self, *, idempotency_key: str | None = None, **body: Any) -> Json:
        """Carry a plan out; the same `idempotency_key` never starts it twice."""
        call = calls.create_batch(idempotency_key=idempotency_key or uuid4().hex, **body)
        answer: Json = self._client.send(call)
        return answer

    def list(self, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.list_batches(**filters))
        return answer

    def get(self, batch_id: str) -> Json:
        answer: Json = self._client.send(calls.get_batch(batch_id))
        return answer

    def items(self, batch_id: str, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.batch_items(batch_id, **filters))
        return answer

    def log(self, batch_id: str, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.batch_log(batch_id, **filters))
        return answer

    def pause(self, batch_id: str) -> Json:
        answer: Json = self._client.send(calls.pause_batch(batch_id))
        return answer

    def resume(self, batch_id: str, **changes: Any) -> Json:
        """changes: max_cost_usd, concurrency."""
        answer: Json = self._client.send(calls.resume_batch(batch_id, **changes))
        return answer

    def cancel(self, batch_id: str) -> Json:
        answer: Json = self._client.send(calls.cancel_batch(batch_id))
        return answer

    def retry(self, batch_id: str, *, classes: Any = None) -> Json:
        """`{batch, retried}`; classes: which failures, all unless given."""
        answer: Json = self._client.send(calls.retry_batch(batch_id, classes=classes))
        return answer

    def failures(self, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.list_failed_generations(**filters))
        return answer

    def failure(self, failure_id: str) -> Json:
        """With the prompt as it was sent and the raw answer."""
        answer: Json = self._client.send(calls.get_failed_generation(failure_id))
        return answer

    def wait(self, batch_id: str, on_change: Callable[[Json], None] | None = None) -> Json:
        """The batch, once it is completed, paused (its cap, too), failed or cancelled."""
        return self._client.wait_for(calls.get_batch(batch_id), f"batch:{batch_id}", BATCH_SETTLED, on_change)


class Conversations:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.list_conversations(**filters))
        return answer

    def get(self, conversation_id: str) -> Json:
        answer: Json = self._client.send(calls.get_conversation(conversation_id))
        return answer


class Costs:
    def __init__(self, client: Client) -> None:
        self._client = client

    def summary(self, **filters: Any) -> Json:
        """Sums of a period; filters: period, start_date, end_date."""
        answer: Json = self._client.send(calls.costs(**filters))
        return answer

    def budget(self) -> Json:
        answer: Json = self._client.send(calls.budget())
        return answer

    def set_budget(self, monthly_limit_usd: str | None, *, reason: str | None = None) -> Json:
        """None: no limit."""
        answer: Json = self._client.send(calls.set_budget(monthly_limit_usd, reason=reason))
        return answer


class Models:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, **filters: Any) -> Json:
        answer: Json = self._client.send(calls.list_models(**filters))
        return answer

    def get(self, model_id: str) -> Json:
        answer: Json = self._client.send(calls.get_model(model_id))
        return answer

    def download(self, model_id: str, target: str | Path, progress: Progress | None = None) -> Path:
        """The zip: adapter, configuration, tokenizer, README, summary, metrics."""
        return self._client.download(calls.model_download_path(model_id), Path(target), progress)


class Packs:
    """Scaffolding: the packs of the workspace and what they hold."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> Any:
        return self._client.send(calls.list_packs())

    def things(self, kind: str, **filters: Any) -> Json:
        """kind: personas, emotional-arcs, training-topics or templates."""
        answer: Json = self._client.send(calls.list_scaffolding(kind, **filters))
        return answer

    def export(self, key: str, target: str | Path) -> Path:
        """The pack as a zip file."""
        return self._client.download(calls.pack_export_path(key), Path(target))

    def take_in(self, archive: bytes) -> Json:
        """A zip file of a pack becomes the pack of the workspace."""
        answer: Json = self._client.send(calls.import_pack(archive))
        return answer

    def plan(self, pack: str, quotas: Json, *, seed: int = 0) -> Json:
        """The conversations that meet the quotas. Nothing is stored and nothing is sent."""
        answer: Json = self._client.send(calls.draw_plan(pack, quotas, seed))
        return answer


__all__ = ["ApiError", "Batches", "Client", "Conversations", "Costs", "Datasets", "Jobs", "Models", "Packs"]
