"""What a user of the API does with training jobs, for tests."""

import hashlib
import json
import random
import time
from collections.abc import Callable
from typing import Any

import httpx2

from live import Member

AddDataset = Callable[..., str]
QUICK = {
    "learning_rate": 1e-3, "batch_size": 4, "epochs": 4, "rank": 4, "min_steps": 0, "checkpoint_every_steps": 5,
    "eval_every_steps": 10, "heldout_fraction": 0.2,
}  # fmt: skip
TOPICS = ["retirement", "a mortgage", "insurance", "taxes", "saving", "debt", "college", "an inheritance"]


def adviser_file(conversations: int = 12, seed: int = 0) -> bytes:
    """A v3 file of short adviser conversations of varied length."""
    rng = random.Random(seed)
    lines = []
    for number in range(conversations):
        turns = []
        for turn in range(rng.randint(1, 3)):
            topic = rng.choice(TOPICS)
            turns.append(
                {"role": "user", "content": f"I worry about {topic}. What comes first, number {number}.{turn}?"}
            )
            step = "Let us take one small step: write down what you know, and we look at it together."
            turns.append({"role": "assistant", "content": f"It makes sense that {topic} feels heavy. {step}"})
        lines.append(json.dumps({"conversation_id": f"c{number}", "turns": turns}) + "\n")
    return "".join(lines).encode()


def data(answer: httpx2.Response) -> Any:
    """The `data` of a success."""
    body = answer.json()
    assert body.get("success") is True, (answer.status_code, body)
    return body["data"]


def start(member: Member, dataset_id: str, *, key: str | None = None, **body: Any) -> httpx2.Response:
    """A quick job on tiny-random unless `body` says otherwise."""
    hyperparameters = QUICK | body.pop("hyperparameters", {})
    body = {"dataset_id": dataset_id, "base_model": "tiny-random", "hyperparameters": hyperparameters, "seed": 7} | body
    return member.client.post("/api/jobs", json=body, headers={"Idempotency-Key": key} if key else {})


def started(member: Member, dataset_id: str, **body: Any) -> dict[str, Any]:
    answer = start(member, dataset_id, **body)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = data(answer)["job"]
    return job


def get(member: Member, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = data(member.client.get(f"/api/jobs/{job_id}"))["job"]
    return job


def events(member: Member, job_id: str, **filters: Any) -> list[dict[str, Any]]:
    found = data(member.client.get(f"/api/jobs/{job_id}/events", params={"limit": 100, "order": "oldest", **filters}))
    items: list[dict[str, Any]] = found["items"]
    return items


def wait_for(check: Callable[[], Any], *, seconds: float = 120.0, what: str = "it") -> Any:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)  # between two questions to a server; nothing is assumed about when it answers
    return found


def job_that(member: Member, job_id: str, check: Callable[[dict[str, Any]], Any], **options: Any) -> dict[str, Any]:
    """The job as soon as `check` holds for it."""

    def look() -> dict[str, Any] | None:
        job = get(member, job_id)
        return job if check(job) else None

    try:
        found: dict[str, Any] = wait_for(look, **options)
    except AssertionError as error:
        job = get(member, job_id)
        log = "\n".join(f"{event['type']}: {event['message']}" for event in events(member, job_id))
        raise AssertionError(f"{error}: {job['status']} {job['stage']} {job['error_message']}\n{log}") from None
    return found


def ended(member: Member, job_id: str, **options: Any) -> dict[str, Any]:
    return job_that(member, job_id, lambda job: job["status"] in {"completed", "failed", "cancelled"}, **options)


def at_step(member: Member, job_id: str, step: int, **options: Any) -> dict[str, Any]:
    return job_that(member, job_id, lambda job: job["step"] >= step, what=f"step {step}", **options)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
