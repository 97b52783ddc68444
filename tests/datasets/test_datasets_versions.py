"""Mending a dataset makes a new version of it: lineage, log of each change, the original untouched."""

import json
from pathlib import Path
from typing import Any

import httpx2
from dataset_steps import chat_file, confirm, data, get, upload, upload_and_validate, validated, wait_for

from live import Live, Member


def row(question: str, answer: Any, **more: Any) -> bytes:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]
    return json.dumps({"messages": said}).encode() + b"\n"


FAULTY = (
    row("What is slip?", "Liquid clay.")
    + row("What is grog?", "Fired clay,\x07 ground.")
    + row("What is bisque?", "The first firing.", weight=True)
    + row("What is leather-hard?", "Half dry.").replace(b"assistant", b"Assistant:")
    + row("What is slip?", "Liquid clay.")
)
MENDED = (
    row("What is slip?", "Liquid clay.")
    + row("What is grog?", "Fired clay, ground.")
    + row("What is bisque?", "The first firing.", weight=1)
    + row("What is leather-hard?", "Half dry.")
)


def fetched(client: httpx2.Client, path: str) -> bytes:
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code == 307, answer.text
    return httpx2.get(answer.headers["location"]).content


def repair(client: httpx2.Client, dataset_id: str, body: Any, **headers: str) -> httpx2.Response:
    return client.post(f"/api/datasets/{dataset_id}/repair", json=body, headers=headers)


def test_mending_all_makes_a_version_that_can_be_trained_on(owner: Member) -> None:
    client = owner.client
    parent = upload_and_validate(client, FAULTY)
    assert (parent["status"], parent["version"], parent["parent_id"]) == ("error", 1, None)
    answer = repair(client, parent["id"], {"all": True})
    assert answer.status_code == 201, answer.text
    made = data(answer)["dataset"]
    assert (made["status"], made["version"], made["parent_id"]) == ("validating", 2, parent["id"])
    assert made["name"] == "Kiln talk (version 2)"

    version = validated(client, made["id"])
    assert version["status"] == "ready", version["error_message"]
    assert version["training_ready"]
    assert version["file_size"] == len(MENDED)
    assert version["repair_counts"] == {
        "control_character": 1,
        "duplicate_record": 1,
        "invalid_weight": 1,
        "unknown_role": 1,
    }
    assert fetched(client, f"/api/datasets/{version['id']}/download") == MENDED
    log = [json.loads(line) for line in fetched(client, f"/api/datasets/{version['id']}/changes/download").splitlines()]
    assert [(change["line"], change["code"]) for change in log] == [
        *((2, "control_character"), (3, "invalid_weight"), (4, "unknown_role"), (5, "duplicate_record"))
    ]
    assert (log[1]["before"], log[1]["after"]) == ("true", "1")

    assert fetched(client, f"/api/datasets/{parent['id']}/download") == FAULTY
    assert get(client, parent["id"])["issue_counts"] == parent["issue_counts"]
    for one in (parent["id"], version["id"]):
        listed = data(client.get(f"/api/datasets/{one}/versions"))["versions"]
        assert [(v["id"], v["version"]) for v in listed] == [(parent["id"], 1), (version["id"], 2)]


def test_preview_shows_what_will_be_written_and_changes_nothing(owner: Member) -> None:
    client = owner.client
    parent = upload_and_validate(client, FAULTY)
    path = f"/api/datasets/{parent['id']}/repair/preview"
    shown = data(client.post(path, json={}))
    assert shown["total"] == 4
    found = {item["code"]: (item["line"], item["before"], item["after"]) for item in shown["items"]}
    assert found["invalid_weight"] == (3, "true", "1")
    assert found["control_character"] == (2, "Fired clay,\\x07 ground.", "Fired clay, ground.")
    assert found["unknown_role"] == (4, '"Assistant:"', '"assistant"')
    assert found["duplicate_record"][2] == ""
    pages = [data(client.post(path, json={}, params={"page": n, "limit": 3}))["items"] for n in (1, 2)]
    assert [len(page) for page in pages] == [3, 1]
    assert pages[0] + pages[1] == shown["items"]
    only = {"issues": [{"code": "invalid_weight", "line": 3, "path": "messages[1].weight"}]}
    (one,) = data(client.post(path, json=only))["items"]
    assert one["after"] == "1"
    assert len(data(client.get(f"/api/datasets/{parent['id']}/versions"))["versions"]) == 1


def test_a_code_or_a_single_finding_alone(owner: Member) -> None:
    client = owner.client
    parent = upload_and_validate(client, FAULTY)
    only = {"issues": [{"code": "invalid_weight", "line": 3, "path": "messages[1].weight"}], "name": "Weights"}
    first = validated(client, data(repair(client, parent["id"], only))["dataset"]["id"])
    assert (first["name"], first["repair_counts"]) == ("Weights", {"invalid_weight": 1})
    second = validated(client, data(repair(client, first["id"], {"codes": ["unknown_role"]}))["dataset"]["id"])
    assert (second["version"], second["parent_id"], second["root_id"]) == (3, first["id"], parent["id"])
    assert second["repair_counts"] == {"unknown_role": 1}
    assert second["issue_counts"].keys() == {"control_character", "duplicate_record"}


def test_a_key_makes_one_version(owner: Member) -> None:
    parent = upload_and_validate(owner.client, FAULTY)
    key = {"Idempotency-Key": "once"}
    first = owner.client.post(f"/api/datasets/{parent['id']}/repair", json={}, headers=key)
    again = owner.client.post(f"/api/datasets/{parent['id']}/repair", json={}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert data(first)["dataset"]["id"] == data(again)["dataset"]["id"]
    other = owner.client.post(f"/api/datasets/{parent['id']}/repair", json={"codes": ["unknown_role"]}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_only_findings_that_can_be_mended_are_promised(owner: Member) -> None:
    client, cut_off = owner.client, row("What is kaolin?", "White clay.")[:-9] + b"\n"
    both = upload_and_validate(
        client, FAULTY + row("What is a kiln?", "An oven.\there").replace(b"\\t", b"\t") + cut_off
    )
    assert both["issue_counts"]["broken_json"] == 2
    assert "5 findings can be mended for you" in client.get(f"/datasets/{both['id']}").text
    assert "5 findings of 5 kinds have a repair" in client.get(f"/datasets/{both['id']}/mend").text

    left = upload_and_validate(client, row("What is slip?", "Liquid clay.") + cut_off)
    assert "can be mended for you" not in client.get(f"/datasets/{left['id']}").text
    assert repair(client, left["id"], {}).json()["code"] == "nothing_to_mend"


def test_what_cannot_be_mended_is_refused_with_the_reason(owner: Member) -> None:
    client = owner.client
    clean = upload_and_validate(client, chat_file(3))
    answer = repair(client, clean["id"], {})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_mend")
    announced = upload(client, FAULTY)
    assert repair(client, announced, {}).json()["code"] == "not_validated"
    assert client.get(f"/api/datasets/{clean['id']}/changes/download").json()["code"] == "no_changes"


def test_a_version_counts_against_the_quota_and_is_in_the_audit_log(live: Live) -> None:
    home = live.new_workspace()
    parent = upload_and_validate(home.client, FAULTY)
    before = data(home.client.get("/api/datasets/stats"))["stats"]["used_bytes"]
    version = validated(home.client, data(repair(home.client, parent["id"], {}))["dataset"]["id"])
    assert data(home.client.get("/api/datasets/stats"))["stats"]["used_bytes"] == before + version["file_size"]


def test_a_version_whose_file_could_not_be_made_is_made_when_it_is_asked_for_again(live: Live) -> None:
    home = live.new_workspace()
    client = home.client
    parent = upload_and_validate(client, FAULTY)
    stored = Path(live.settings.data) / "objects" / "lora-datasets" / parent["storage_path"]
    aside = stored.with_name("aside")
    stored.rename(aside)
    made = data(repair(client, parent["id"], {}))["dataset"]
    failed = validated(client, made["id"])
    assert (failed["status"], failed["error_code"]) == ("error", "object_missing")
    aside.rename(stored)
    assert confirm(client, made["id"]).status_code == 200
    again = wait_for(lambda: (found := get(client, made["id"]))["status"] == "ready" and found, what="the version")
    assert again["file_size"] == len(MENDED)
