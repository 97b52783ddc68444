"""What a user of the API does with a dataset, for tests."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2

CHAT = {"messages": [{"role": "user", "content": "What is slip?"}, {"role": "assistant", "content": "Liquid clay."}]}


def chat_file(records: int = 3, *, long: int = 0) -> bytes:
    """A good file in openai_messages, no two records alike. long: least characters of a question."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"How long does kiln {n} cool?{' And then?' * (long // 10)}"},
                {"role": "assistant", "content": f"About {n + 10} hours, with the door shut."},
            ]
        }
        for n in range(records)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def announce(client: httpx2.Client, content: bytes, **fields: Any) -> httpx2.Response:
    body = {"name": "Kiln talk", "file_name": "kiln.jsonl", "file_size": len(content)} | fields
    return client.post("/api/datasets", json=body)


def data(answer: httpx2.Response) -> dict[str, Any]:
    """The `data` of a success."""
    body = answer.json()
    assert body.get("success") is True, (answer.status_code, body)
    found: dict[str, Any] = body["data"]
    return found


def put(created: dict[str, Any], content: bytes) -> httpx2.Response:
    return httpx2.put(created["uploadUrl"], content=content, timeout=60)


def upload(client: httpx2.Client, content: bytes, **fields: Any) -> str:
    """Announced, sent and not yet confirmed; the id."""
    answer = announce(client, content, **fields)
    assert answer.status_code == 201, answer.text
    created = data(answer)
    sent = put(created, content)
    assert sent.status_code in {200, 201}, sent.text
    return str(created["dataset"]["id"])


def get(client: httpx2.Client, dataset_id: str) -> dict[str, Any]:
    found: dict[str, Any] = data(client.get(f"/api/datasets/{dataset_id}"))["dataset"]
    return found


def confirm(client: httpx2.Client, dataset_id: str) -> httpx2.Response:
    return client.post(f"/api/datasets/{dataset_id}/confirm")


def wait_for(check: Callable[[], Any], *, seconds: float = 60.0, what: str = "it") -> Any:
    """Ask until the answer is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)  # between two questions to a server; nothing is assumed about when it answers
    return found


def validated(client: httpx2.Client, dataset_id: str) -> dict[str, Any]:
    """The dataset when its validation has ended."""

    def ended() -> dict[str, Any] | None:
        dataset = get(client, dataset_id)
        return dataset if dataset["status"] in {"ready", "error"} else None

    found: dict[str, Any] = wait_for(ended, what="validation")
    return found


def upload_and_validate(client: httpx2.Client, content: bytes, **fields: Any) -> dict[str, Any]:
    dataset_id = upload(client, content, **fields)
    assert data(confirm(client, dataset_id))["dataset"]["status"] == "validating"
    return validated(client, dataset_id)


def lines_of(*records: Any) -> bytes:
    """JSON Lines of values; a `str` or `bytes` is a line as it stands."""
    out = b""
    for record in records:
        match record:
            case bytes():
                line = record
            case str():
                line = record.encode()
            case _:
                line = json.dumps(record).encode()
        out += line + b"\n"
    return out
