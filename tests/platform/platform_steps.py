"""What a client does with nothing but HTTP, for tests of the whole platform."""

import json
from typing import Any

import httpx2

from waiting import eventually


def records(number: int = 3, *, words: int = 8) -> bytes:
    """A good training file, no two records alike. words: about how long a question is."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Case {n}: " + "what now? " * (words // 2)},
                {"role": "assistant", "content": f"Wait for {n + 3} days, then look again."},
            ]
        }
        for n in range(number)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def data(answer: httpx2.Response) -> dict[str, Any]:
    """The `data` of a success."""
    body = answer.json()
    assert body.get("success") is True, (answer.status_code, body)
    found: dict[str, Any] = body["data"]
    return found


def announce(client: httpx2.Client, size: int, **fields: Any) -> dict[str, Any]:
    """A new dataset: {dataset, uploadUrl, storagePath, multipart}."""
    body = {"name": "Cases", "file_name": "cases.jsonl", "file_size": size} | fields
    answer = client.post("/api/datasets", json=body)
    assert answer.status_code == 201, answer.text
    return data(answer)


def dataset(client: httpx2.Client, dataset_id: str) -> dict[str, Any]:
    found: dict[str, Any] = data(client.get(f"/api/datasets/{dataset_id}"))["dataset"]
    return found


def put_parts(multipart: dict[str, Any], content: bytes) -> None:
    """Every missing part, then the completion."""
    for part in multipart["parts"]:
        start = (part["number"] - 1) * multipart["part_size"]
        piece = content[start : start + part["size"]]
        sent = httpx2.put(part["url"], content=piece, timeout=60)
        if sent.status_code >= 500:
            sent = httpx2.put(part["url"], content=piece, timeout=60)  # As our own client does.
        assert sent.is_success, sent.text
    completed = httpx2.post(multipart["complete_url"], timeout=60)
    assert completed.status_code == 200, completed.text


def confirm(client: httpx2.Client, dataset_id: str) -> httpx2.Response:
    return client.post(f"/api/datasets/{dataset_id}/confirm")


def validated(client: httpx2.Client, dataset_id: str, *, within: float = 60.0) -> dict[str, Any]:
    """The dataset when its validation has ended."""

    def ended() -> dict[str, Any] | None:
        found = dataset(client, dataset_id)
        return found if found["status"] in {"ready", "error"} else None

    found = eventually("validation", ended, within=within)
    assert found is not None
    return found


def upload(client: httpx2.Client, content: bytes, **fields: Any) -> dict[str, Any]:
    """Announced, sent in one PUT, confirmed, validated."""
    created = announce(client, len(content), **fields)
    assert httpx2.put(created["uploadUrl"], content=content, timeout=120).is_success
    assert confirm(client, created["dataset"]["id"]).status_code == 200
    return validated(client, created["dataset"]["id"])
