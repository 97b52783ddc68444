"""The rules of probes: one for each configuration at a time, found again by whoever asks for the same promise."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.signin import Principal
from brightrun.clock import utcnow
from brightrun.datasets import service as datasets
from brightrun.datasets.tables import Dataset
from brightrun.errors import ConflictError, NotFoundError
from brightrun.ids import uuid7
from brightrun.queue import enqueue
from brightrun.queue.events import publish
from brightrun.settings import Settings
from brightrun.training import estimating
from brightrun.training.configuration import DEFAULT_BASE_MODEL, Configuration, check_base_model, configure
from brightrun.training.estimates import repository
from brightrun.training.estimates.keys import PROBE_TASK, probe_key
from brightrun.training.estimates.schemas import CellOut, FitsIn, ProbeCreate, ProbeOut
from brightrun.training.estimates.tables import EstimateProbe, ProbeStatus
from brightrun.training.promise.machine import machine_for
from brightrun.training.service import require_ready


async def start_probe(
    session: AsyncSession, settings: Settings, principal: Principal, body: ProbeCreate
) -> tuple[EstimateProbe, bool]:
    """A queued probe, and whether it is new: one that is open for the same configuration is answered again.

    Raises ConflictError for a dataset that is not ready, or a device that is not the machine of a worker.
    """
    dataset = await datasets.get(session, body.dataset_id, large=False)
    require_ready(dataset)
    base_model = body.base_model or DEFAULT_BASE_MODEL
    await check_base_model(settings, base_model)
    configuration = await _configuration(session, settings, dataset, body, base_model)
    if configuration.gpu.unavailable is not None or not machine_for(configuration.gpu).here:
        reason = configuration.gpu.unavailable or f"{configuration.gpu.title} is not on this machine."
        raise ConflictError(
            f"A probe runs on the machine itself. {reason}",
            code="gpu_unavailable", details={"gpu_config.type": [reason]},
        )  # fmt: skip
    assert dataset.sha256 is not None
    key = probe_key(dataset.sha256, base_model, configuration.gpu.id, configuration.values)
    # Two clicks at once: the second finds what the first made.
    await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"probe {key}"})
    open_one = await repository.newest_probe(session, key, repository.OPEN)
    if open_one is not None and open_one.cancel_requested_at is None:
        return open_one, False
    probe = EstimateProbe(
        id=uuid7(),
        workspace_id=principal.workspace_id,
        created_by=principal.user_id,
        dataset_id=dataset.id,
        dataset_sha256=dataset.sha256,
        base_model=base_model,
        preset_id=configuration.preset_id,
        overrides=dict(body.hyperparameters),
        hyperparameters=configuration.as_json,
        gpu_config=configuration.gpu.frozen(configuration.gpu_count),
        key=key,
        words="Waiting for a worker",
    )
    session.add(probe)
    await session.flush()
    await session.refresh(probe)
    await enqueue(session, PROBE_TASK, workspace_id=probe.workspace_id, probe_id=probe.id)
    await announce(session, probe, "probe.created")
    return probe, True


async def _configuration(
    session: AsyncSession, settings: Settings, dataset: Dataset, body: ProbeCreate, base_model: str
) -> Configuration:
    subject = await estimating.subject_of(session, settings, dataset, base_model)
    return configure(
        settings, preset_id=body.preset_id, overrides=body.hyperparameters, gpu_config=body.gpu_config,
        pairs=subject.records,
    )  # fmt: skip


async def get_probe(session: AsyncSession, probe_id: UUID, *, lock: bool = False) -> EstimateProbe:
    """NotFoundError: absent or foreign."""
    probe = await repository.probe(session, probe_id, lock=lock)
    if probe is None:
        raise NotFoundError("There is no such probe")
    return probe


async def cancel_probe(session: AsyncSession, probe_id: UUID) -> EstimateProbe:
    """Stop it; repeating it changes nothing. Raises ConflictError for one that has ended otherwise."""
    probe = await get_probe(session, probe_id, lock=True)
    match ProbeStatus(probe.status):
        case ProbeStatus.CANCELLED:
            return probe
        case ProbeStatus.DONE | ProbeStatus.FAILED:
            raise ConflictError(f"The probe is {probe.status} already", code="probe_ended")
        case ProbeStatus.QUEUED:
            probe.status, probe.ended_at = ProbeStatus.CANCELLED, utcnow()
            probe.words = None
        case ProbeStatus.RUNNING:
            probe.words = "Stopping"
    probe.cancel_requested_at = probe.cancel_requested_at or utcnow()
    await session.flush()
    await session.refresh(probe)
    await announce(session, probe)
    return probe


async def announce(session: AsyncSession, probe: EstimateProbe, kind: str = "probe.updated") -> None:
    """To who watches probes of the dataset, and who watches this one. kinds: `probe.created`, `probe.updated`."""
    payload: dict[str, Any] = {
        "id": str(probe.id),
        "dataset_id": str(probe.dataset_id),
        "status": probe.status,
        "progress": float(probe.progress),
        "words": probe.words,
        "cancelling": probe.cancel_requested_at is not None and probe.ended_at is None,
        "error_message": probe.error_message,
    }
    await publish(session, "probes", kind, payload)
    await publish(session, f"probe:{probe.id}", kind, payload)


def probe_view(probe: EstimateProbe) -> ProbeOut:
    columns = {name: getattr(probe, name) for name in ProbeOut.model_fields if name != "cancelling"}
    return ProbeOut(**columns, cancelling=probe.cancel_requested_at is not None and probe.ended_at is None)


async def fits(session: AsyncSession, settings: Settings, body: FitsIn) -> list[CellOut]:
    """Each preset on each device. Raises InvalidInputError, NotFoundError."""
    promises = await estimating.every_promise(
        session, settings, dataset_id=body.dataset_id, pairs=body.training_pairs, tokens=body.tokens,
        base_model=body.base_model or DEFAULT_BASE_MODEL, overrides=body.hyperparameters,
    )  # fmt: skip
    return [
        CellOut(
            preset_id=promise["preset_id"], gpu_type=promise["inputs"]["gpu_type"], fits=promise["fits"],
            available=promise["available"], reasons=promise["reasons"], memory_bytes=promise["memory_bytes"],
            seconds=promise["seconds"], cost_usd=promise["cost_usd"],
        )
        for promise in promises
    ]  # fmt: skip
