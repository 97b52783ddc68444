"""The same client for asyncio. Uploads and downloads run in a thread: they are bound by disk and network, not by us."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx2

from brightrun.errors import UnavailableError
from brightrun.sdk import calls
from brightrun.sdk.calls import Call, Json, read_answer
from brightrun.sdk.client import Client, Progress, answer_body, from_environment


class AsyncClient:
    """A connection to one BrightRun server, acting in the token's workspace."""

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60.0) -> None:
        self.url, self._token = from_environment(url, token)
        self._timeout_s = timeout_s
        self._http = httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self._token}"}, timeout=timeout_s
        )
        self.datasets = AsyncDatasets(self)
        self.jobs = AsyncJobs(self)
        self.costs = AsyncCosts(self)
        self.models = AsyncModels(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call) -> Any:
        """Send one call. Raises ApiError for a refusal, UnavailableError when nobody answers."""
        try:
            response = await self._http.request(
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

    async def me(self) -> Json:
        answer: Json = await self.send(calls.me())
        return answer

    async def in_thread(self, work: Callable[[Client], Any]) -> Any:
        """Run `work` with a synchronous client in a thread."""

        def run() -> Any:
            with Client(self.url, self._token, timeout_s=self._timeout_s) as client:
                return work(client)

        return await asyncio.to_thread(run)


class AsyncDatasets:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(self, **fields: Any) -> Json:
        answer: Json = await self._client.send(calls.create_dataset(**fields))
        return answer

    async def upload(self, path: str | Path, **options: Any) -> Json:
        """As `Client.datasets.upload`."""
        answer: Json = await self._client.in_thread(lambda client: client.datasets.upload(path, **options))
        return answer

    async def list(self, **filters: Any) -> Json:
        answer: Json = await self._client.send(calls.list_datasets(**filters))
        return answer

    async def get(self, dataset_id: str) -> Json:
        answer: Json = await self._client.send(calls.get_dataset(dataset_id))
        return answer

    async def update(self, dataset_id: str, **changes: Any) -> Json:
        answer: Json = await self._client.send(calls.update_dataset(dataset_id, **changes))
        return answer

    async def confirm(self, dataset_id: str) -> Json:
        answer: Json = await self._client.send(calls.confirm_dataset(dataset_id))
        return answer

    async def delete(self, dataset_id: str) -> Json:
        answer: Json = await self._client.send(calls.delete_dataset(dataset_id))
        return answer

    async def restore(self, dataset_id: str) -> Json:
        answer: Json = await self._client.send(calls.restore_dataset(dataset_id))
        return answer

    async def validation(self, dataset_id: str) -> Json:
        answer: Json = await self._client.send(calls.dataset_validation(dataset_id))
        return answer

    async def issues(self, dataset_id: str, **filters: Any) -> Json:
        answer: Json = await self._client.send(calls.dataset_issues(dataset_id, **filters))
        return answer

    async def download_issues(self, dataset_id: str, target: str | Path, **options: Any) -> Path:
        """As `Client.datasets.download_issues`."""
        answer: Path = await self._client.in_thread(
            lambda client: client.datasets.download_issues(dataset_id, target, **options)
        )
        return answer

    async def record(self, dataset_id: str, line: int) -> Json:
        answer: Json = await self._client.send(calls.dataset_record(dataset_id, line))
        return answer

    async def mask(self, dataset_id: str, line: int, **options: Any) -> Json:
        answer: Json = await self._client.send(calls.dataset_mask(dataset_id, line, **options))
        return answer

    async def split(self, dataset_id: str, **options: Any) -> Json:
        answer: Json = await self._client.send(calls.dataset_split(dataset_id, **options))
        return answer

    async def dismissals(self, dataset_id: str) -> Any:
        return await self._client.send(calls.dataset_dismissals(dataset_id))

    async def dismiss(
        self, dataset_id: str, *, code: str, reason: str, line: int | None = None, path: str | None = None
    ) -> Any:
        return await self._client.send(
            calls.dismiss_warning(dataset_id, code=code, reason=reason, line=line, path=path)
        )

    async def take_back(self, dataset_id: str, dismissal_id: str) -> Json:
        answer: Json = await self._client.send(calls.take_dismissal_back(dataset_id, dismissal_id))
        return answer

    async def preview_repair(self, dataset_id: str, **selection: Any) -> Json:
        """Before and after of what would be mended: all, codes, issues; page, limit. Nothing given: everything."""
        answer: Json = await self._client.send(calls.preview_repair(dataset_id, **selection))
        return answer

    async def repair(self, dataset_id: str, *, idempotency_key: str | None = None, **body: Any) -> Json:
        """The new version, being made: all, codes, issues, name. The same `idempotency_key` never makes two."""
        key = idempotency_key or uuid4().hex
        answer: Json = await self._client.send(calls.repair_dataset(dataset_id, idempotency_key=key, **body))
        return answer

    async def versions(self, dataset_id: str) -> Any:
        """All versions of a dataset, the first first: a list."""
        return await self._client.send(calls.dataset_versions(dataset_id))

    async def download_changes(self, dataset_id: str, target: str | Path, **options: Any) -> Path:
        """The log of every change that made this version, JSON Lines. options: progress."""
        path: Path = await self._client.in_thread(
            lambda client: client.datasets.download_changes(dataset_id, target, **options)
        )
        return path

    async def conversion(self, dataset_id: str, to: str) -> Json:
        """What the file in another format would hold, and what it would not."""
        answer: Json = await self._client.send(calls.dataset_conversion(dataset_id, to))
        return answer

    async def download_converted(self, dataset_id: str, to: str, target: str | Path, **options: Any) -> Path:
        """The file in another format, JSON Lines. options: progress."""
        path: Path = await self._client.in_thread(
            lambda client: client.datasets.download_converted(dataset_id, to, target, **options)
        )
        return path

    async def wait(self, dataset_id: str) -> Json:
        answer: Json = await self._client.in_thread(lambda client: client.datasets.wait(dataset_id))
        return answer


class AsyncJobs:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def estimate(self, **body: Any) -> Json:
        answer: Json = await self._client.send(calls.estimate_job(**body))
        return answer

    async def create(self, *, idempotency_key: str | None = None, **body: Any) -> Json:
        call = calls.create_job(idempotency_key=idempotency_key or uuid4().hex, **body)
        answer: Json = await self._client.send(call)
        return answer

    async def list(self, **filters: Any) -> Json:
        answer: Json = await self._client.send(calls.list_jobs(**filters))
        return answer

    async def get(self, job_id: str) -> Json:
        answer: Json = await self._client.send(calls.get_job(job_id))
        return answer

    async def cancel(self, job_id: str, **options: Any) -> Json:
        """options: reason, note, checkpoint (false: stop at the next step, without saving)."""
        answer: Json = await self._client.send(calls.cancel_job(job_id, **options))
        return answer

    async def pause(self, job_id: str) -> Json:
        answer: Json = await self._client.send(calls.pause_job(job_id))
        return answer

    async def resume(self, job_id: str, **options: Any) -> Json:
        """options: checkpoint_step, hyperparameters (that do not change the result), max_cost_usd."""
        answer: Json = await self._client.send(calls.resume_job(job_id, **options))
        return answer

    async def retry(self, job_id: str, *, apply_fix: bool = False) -> Json:
        """apply_fix: with the change in the job's `failure.fix`; the answer may be a new job then."""
        answer: Json = await self._client.send(calls.retry_job(job_id, apply_fix=apply_fix))
        return answer

    async def templates(self, **filters: Any) -> Json:
        """Saved configurations; `template_id` in `create` starts a job with one."""
        answer: Json = await self._client.send(calls.list_templates(**filters))
        return answer

    async def save_template(self, *, name: str, **body: Any) -> Json:
        """body: job_id, or the configuration itself as in `create`."""
        answer: Json = await self._client.send(calls.create_template(name=name, **body))
        return answer

    async def delete_template(self, template_id: str) -> Json:
        answer: Json = await self._client.send(calls.delete_template(template_id))
        return answer

    async def diff(self, left: str, right: str) -> Json:
        """What tells two configurations apart, each `job:ID` or `template:ID`."""
        answer: Json = await self._client.send(calls.diff_configurations(left, right))
        return answer

    async def set_priority(self, job_id: str, priority: str, *, reason: str | None = None) -> Json:
        """priority: low, normal or high (high is for owners and admins). The job."""
        answer: Json = await self._client.send(calls.set_job_priority(job_id, priority, reason=reason))
        return answer

    async def compare(self, ids: Sequence[str], *, points: int | None = None) -> Json:
        """Two to four runs: `runs`, `lines` (what differs first), and of every pair whether a difference is proven."""
        answer: Json = await self._client.send(calls.compare_jobs(ids, points=points))
        return answer

    async def bulk(self, action: str, ids: Sequence[str], **options: Any) -> Json:
        """One thing done to many jobs: cancel, pause, resume, retry, tag, untag, priority, archive or unarchive.

        options: reason, note, checkpoint, tags, priority. `results` says of each job what became of it.
        """
        answer: Json = await self._client.send(calls.act_on_jobs(action, ids, **options))
        return answer

    async def tags(self) -> Any:
        """The tags that jobs have, each with how many."""
        return await self._client.send(calls.job_tags())

    async def set_tags(self, job_id: str, tags: Sequence[str]) -> Any:
        """These and no others; the tags as they are kept."""
        return await self._client.send(calls.set_job_tags(job_id, tags))

    async def notes(self, job_id: str) -> Any:
        """The newest first."""
        return await self._client.send(calls.job_notes(job_id))

    async def add_note(self, job_id: str, text: str) -> Json:
        answer: Json = await self._client.send(calls.add_job_note(job_id, text))
        return answer

    async def queue(self) -> Json:
        """The jobs that wait, in order, each with `position` and `start_estimate`; and what there is to run them."""
        answer: Json = await self._client.send(calls.job_queue())
        return answer

    async def metrics(self, job_id: str, *, points: int | None = None) -> Json:
        answer: Json = await self._client.send(calls.job_metrics(job_id, points=points))
        return answer

    async def wait(self, job_id: str) -> Json:
        answer: Json = await self._client.in_thread(lambda client: client.jobs.wait(job_id))
        return answer


class AsyncCosts:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def summary(self, **filters: Any) -> Json:
        """Sums of a period; filters: period, start_date, end_date."""
        answer: Json = await self._client.send(calls.costs(**filters))
        return answer

    async def budget(self) -> Json:
        answer: Json = await self._client.send(calls.budget())
        return answer

    async def set_budget(self, monthly_limit_usd: str | None, *, reason: str | None = None) -> Json:
        """None: no limit."""
        answer: Json = await self._client.send(calls.set_budget(monthly_limit_usd, reason=reason))
        return answer


class AsyncModels:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self, **filters: Any) -> Json:
        answer: Json = await self._client.send(calls.list_models(**filters))
        return answer

    async def get(self, model_id: str) -> Json:
        answer: Json = await self._client.send(calls.get_model(model_id))
        return answer

    async def download(self, model_id: str, target: str | Path, progress: Progress | None = None) -> Path:
        path: Path = await self._client.in_thread(lambda client: client.models.download(model_id, target, progress))
        return path
