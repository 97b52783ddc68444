"""The way of a dataset over real HTTP, the signed URL, the queue and the worker."""

import csv
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dataset_steps import (
    CHAT,
    announce,
    chat_file,
    confirm,
    data,
    get,
    lines_of,
    put,
    upload,
    upload_and_validate,
    validated,
    wait_for,
)

from live import Live, Member

SHARED = Path(__file__).parents[3] / "shared" / "data"


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_create_answers_the_dataset_and_where_to_send_the_file(owner: Member) -> None:
    content = chat_file()
    answer = announce(owner.client, content, description="From the workshop", format="ChatML")
    assert answer.status_code == 201
    created = data(answer)
    dataset = created["dataset"]
    assert dataset["status"] == "uploading"
    assert dataset["declared_format"] == "openai_messages"
    assert dataset["storage_bucket"] == "lora-datasets"
    assert created["storagePath"] == dataset["storage_path"]
    assert created["storagePath"] == f"{owner.workspace_id}/datasets/{dataset['id']}/kiln.jsonl"
    assert created["uploadUrl"].startswith("http://127.0.0.1:")
    multipart = created["multipart"]
    assert {"upload_id", "part_size", "parts", "complete_url", "status_url"} <= multipart.keys()
    assert [part["number"] for part in multipart["parts"]] == [1]
    assert "http" not in json.dumps(get(owner.client, dataset["id"])), "no URL is ever stored"


def test_a_good_file_becomes_ready_with_its_numbers(owner: Member) -> None:
    content = chat_file(5)
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "ready", dataset["error_message"]
    assert dataset["training_ready"] is True
    assert dataset["format"] == "openai_messages"
    assert dataset["format_reason"]
    assert dataset["sha256"] == hashlib.sha256(content).hexdigest()
    assert dataset["total_records"] == dataset["total_conversations"] == dataset["total_training_pairs"] == 5
    assert dataset["total_turns"] == 10
    assert dataset["tokens_source"] == "exact:tiny"
    assert dataset["total_tokens"] > 0
    assert dataset["avg_turns_per_conversation"] == 2
    assert dataset["validation_errors"] is None
    assert dataset["errors_total"] == 0
    assert len(dataset["sample_data"]) == 3
    assert dataset["validated_at"]
    assert dataset["error_code"] is None


def test_validation_starts_within_two_seconds_of_the_confirmation(live: Live, owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file())
    assert confirm(owner.client, dataset_id).status_code == 200
    wait_for(lambda: get(owner.client, dataset_id)["status"] == "ready", seconds=2.0, what="validation")


def test_parts_in_any_order_make_the_file(owner: Member) -> None:
    content = chat_file(18, long=1_000_000)  # two parts
    created = data(announce(owner.client, content))
    multipart = created["multipart"]
    for part in reversed(multipart["parts"]):
        start = (part["number"] - 1) * multipart["part_size"]
        sent = httpx2.put(part["url"], content=content[start : start + part["size"]], timeout=60)
        assert sent.status_code == 200, sent.text
    assert httpx2.post(multipart["complete_url"], timeout=60).status_code == 200
    dataset_id = created["dataset"]["id"]
    confirm(owner.client, dataset_id)
    dataset = validated(owner.client, dataset_id)
    assert dataset["status"] == "ready"
    assert dataset["sha256"] == hashlib.sha256(content).hexdigest()


def test_an_upload_goes_on_after_a_reload_with_fresh_urls(owner: Member) -> None:
    content = chat_file(18, long=1_000_000)  # two parts
    created = data(announce(owner.client, content))
    dataset_id, first = created["dataset"]["id"], created["multipart"]["parts"][0]
    assert len(created["multipart"]["parts"]) >= 2
    assert httpx2.put(first["url"], content=content[: first["size"]], timeout=60).status_code == 200

    again = data(owner.client.get(f"/api/datasets/{dataset_id}/upload"))
    assert [part["number"] for part in again["multipart"]["stored"]] == [1]
    assert again["uploaded"] is False
    for part in again["multipart"]["parts"]:
        start = (part["number"] - 1) * again["multipart"]["part_size"]
        sent = httpx2.put(part["url"], content=content[start : start + part["size"]], timeout=60)
        assert sent.status_code == 200, sent.text
    assert httpx2.post(again["multipart"]["complete_url"], timeout=60).status_code == 200
    assert data(owner.client.get(f"/api/datasets/{dataset_id}/upload"))["uploaded"] is True
    confirm(owner.client, dataset_id)
    assert validated(owner.client, dataset_id)["sha256"] == hashlib.sha256(content).hexdigest()
    assert owner.client.get(f"/api/datasets/{dataset_id}/upload").json()["code"] == "already_uploaded"


def test_confirm_twice_is_idempotent_and_later_validates_again(owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file())
    first, second = confirm(owner.client, dataset_id), confirm(owner.client, dataset_id)
    assert first.status_code == second.status_code == 200
    dataset = validated(owner.client, dataset_id)
    assert dataset["status"] == "ready"
    attempt = dataset["validation_attempt"]
    assert data(confirm(owner.client, dataset_id))["dataset"]["status"] == "validating"
    again = validated(owner.client, dataset_id)
    assert again["status"] == "ready"
    assert again["validation_attempt"] == attempt + 1
    assert again["total_records"] == dataset["total_records"]


def test_confirmations_at_once_start_one_validation(owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file(10_000))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: confirm(owner.client, dataset_id), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    dataset = validated(owner.client, dataset_id)
    assert dataset["status"] == "ready"
    notifications = data(owner.client.get("/api/notifications"))["items"]
    assert len(notifications) == dataset["validation_attempt"]


def test_ready_and_error_are_notified(owner: Member) -> None:
    good = upload_and_validate(owner.client, chat_file(), name="Good one")
    bad = upload_and_validate(owner.client, b"not json\n", name="Bad one")
    found = {item["type"]: item for item in data(owner.client.get("/api/notifications"))["items"]}
    assert found["dataset_ready"]["action_url"] == f"/datasets/{good['id']}"
    assert "3 training pairs" in found["dataset_ready"]["message"]
    assert found["dataset_error"]["action_url"] == f"/datasets/{bad['id']}"
    assert "Bad one" in found["dataset_error"]["message"]


def test_the_valid_turns_file_gives_five_conversations_and_no_error(owner: Member) -> None:
    content = lines_of(
        *(
            {
                "conversation_id": f"c{n}",
                "turns": turns(("user", f"Which glaze for pot {n}?"), ("assistant", f"Ash glaze number {n}.")),
            }
            for n in range(5)
        )
    )
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "ready"
    assert dataset["format"] == "brightrun_lora_v3"
    assert dataset["total_conversations"] == 5
    assert dataset["errors_total"] == 0


INVALID_TURNS = lines_of(
    {"conversation_id": "c1", "turns": turns(("user", "Is anybody there?"))},
    {"conversation_id": "c2", "turns": []},
    {"turns": turns(("user", "Who am I?"), ("assistant", "A potter."))},
    {"conversation_id": "c4"},
    "This line is not JSON",
    {"conversation_id": "c6", "turns": [{"role": "user"}, {"role": "assistant", "content": "Yes."}]},
)


def test_the_invalid_turns_file_gives_exactly_six_faulty_lines(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, INVALID_TURNS)
    assert dataset["status"] == "error"
    assert dataset["training_ready"] is False
    assert dataset["error_code"] == "validation_failed"
    by_line = {issue["line"]: issue["code"] for issue in dataset["validation_errors"]}
    assert by_line.keys() == {1, 2, 3, 4, 5, 6}
    assert by_line[1] == "no_assistant_turn"
    assert by_line[2] == "empty_list"
    assert by_line[5] == "broken_json"
    assert all(issue["message"] and issue["suggestion"] for issue in dataset["validation_errors"])


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data beside the repository")
def test_the_earlier_products_fixtures(owner: Member) -> None:
    valid = upload_and_validate(owner.client, (SHARED / "turns-valid.jsonl").read_bytes())
    assert (valid["status"], valid["total_conversations"], valid["errors_total"]) == ("ready", 5, 0)
    invalid = upload_and_validate(owner.client, (SHARED / "turns-invalid.jsonl").read_bytes())
    assert invalid["status"] == "error"
    assert {issue["line"] for issue in invalid["validation_errors"]} == {1, 2, 3, 4, 5, 6}


def test_issues_are_paged_filtered_and_downloadable(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, INVALID_TURNS)
    at = f"/api/datasets/{dataset['id']}"
    report = data(owner.client.get(f"{at}/validation"))["validation"]
    assert report["errors_total"] == dataset["errors_total"]
    assert report["file"] == "kiln.jsonl"
    everything = data(owner.client.get(f"{at}/issues", params={"limit": 100}))
    assert everything["total"] == sum(report["by_code"].values())
    broken = data(owner.client.get(f"{at}/issues", params={"code": "broken_json"}))
    assert [(issue["line"], issue["severity"]) for issue in broken["items"]] == [(5, "error")]
    assert data(owner.client.get(f"{at}/issues", params={"line": 2, "severity": "error"}))["total"] == 1
    listed = httpx2.get(owner.client.get(f"{at}/issues/download").headers["location"])
    assert [json.loads(line)["code"] for line in listed.text.splitlines()] == [
        issue["code"] for issue in everything["items"]
    ]


def test_more_than_a_thousand_issues_are_all_kept(owner: Member) -> None:
    content = b"not json\n" * 3_000 + lines_of(chat_file(1).decode().strip())
    dataset = upload_and_validate(owner.client, content, format="openai_messages")
    at = f"/api/datasets/{dataset['id']}"
    assert dataset["errors_total"] == 3_000
    assert len(dataset["validation_errors"]) == 1_000
    last = data(owner.client.get(f"{at}/issues", params={"page": 120, "limit": 25, "code": "broken_json"}))
    assert last["total"] == 3_000
    assert [issue["line"] for issue in last["items"]] == list(range(2_976, 3_001))
    assert data(owner.client.get(f"{at}/issues", params={"line": 2_500}))["total"] == 1


def test_a_long_list_is_filtered_as_a_short_one_and_comes_as_a_table(owner: Member) -> None:
    bad = {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Fine."}]}
    content = b"".join(b"not json\n" if n % 3 else lines_of(bad) for n in range(3_000)) + b"\n" + lines_of(CHAT)
    at = f"/api/datasets/{upload_and_validate(owner.client, content)['id']}"
    counts = data(owner.client.get(f"{at}/validation"))["validation"]["by_code"]

    def ask(**wanted: Any) -> tuple[list[int], int]:
        found = data(owner.client.get(f"{at}/issues", params=wanted))
        return [issue["line"] for issue in found["items"]], found["total"]

    assert ask(code="broken_json", page=80, limit=25) == ([n for n in range(1, 3001) if (n - 1) % 3][1975:2000], 2_000)
    assert ask(code="broken_json", line=2) == ([2], 1)
    assert ask(code="broken_json", line=1) == ([], 0)
    assert ask(line=2_500)[0] == [2_500]
    assert ask(code="broken_json", severity="warning") == ([], 0)
    assert ask(severity="error", limit=100, page=30)[1] == sum(counts.values()), "all of it is errors"
    table = httpx2.get(owner.client.get(f"{at}/issues/download", params={"format": "csv"}).headers["location"])
    assert "issues.csv" in table.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"))))
    assert len(rows) == sum(counts.values())
    assert (rows[0]["line"], rows[1]["code"]) == ("1", "broken_json")
    assert owner.client.get(f"{at}/issues/download", params={"format": "xml"}).status_code == 400


def test_the_list_of_an_older_version_says_what_to_do(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, b"not json\n" * 1_200, format="openai_messages")
    folder = live.settings.data / "objects/lora-datasets" / str(owner.workspace_id) / "dataset-issues" / dataset["id"]
    for suffix in (".index", ".csv"):
        for file in folder.glob(f"*{suffix}"):
            file.unlink()
    for path in ("issues", "issues/download?format=csv"):
        answer = owner.client.get(f"/api/datasets/{dataset['id']}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "list_outdated")
    assert owner.client.get(f"/api/datasets/{dataset['id']}/issues/download").status_code == 307


def test_the_original_file_comes_back_unchanged(owner: Member) -> None:
    content = chat_file()
    dataset_id = upload(owner.client, content, file_name="meine Töpfe.jsonl")
    answer = owner.client.get(f"/api/datasets/{dataset_id}/download")
    assert answer.status_code == 307
    fetched = httpx2.get(answer.headers["location"])
    assert fetched.content == content
    assert "T%C3%B6pfe" in fetched.headers["content-disposition"]


def test_a_plain_put_leaves_no_multipart_behind(live: Live, owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file())
    assert dataset["status"] == "ready"
    left = [
        folder
        for folder in (live.settings.data / "uploads").iterdir()
        if (folder / "upload.json").exists() and dataset["id"] in (folder / "upload.json").read_text()
    ]
    assert left == []


def test_put_after_validation_cannot_change_the_bytes(owner: Member) -> None:
    content = chat_file()
    created = data(announce(owner.client, content))
    put(created, content)
    confirm(owner.client, created["dataset"]["id"])
    validated(owner.client, created["dataset"]["id"])
    other = content.replace(b"About", b"Maybe")
    assert put(created, other).json()["code"] == "object_exists"
