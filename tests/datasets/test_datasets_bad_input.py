"""Bad input: a clear error at the right place, the row in `error`, the server alive, nothing half-stored."""

import gzip
import hashlib
import io
import json
import zipfile
from typing import Any

import httpx2
import pytest
from dataset_steps import CHAT, announce, chat_file, confirm, data, get, lines_of, put, upload, upload_and_validate

from live import Live, Member


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl", chat_file())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "at least 1 character"),
        ("name", "   ", "at least 1 character"),
        ("name", "x" * 256, "at most 255 characters"),
        ("name", "a\u0000b", "control characters"),
        ("name", "half an emoji \ud83d", ""),
        ("name", None, "string"),
        ("file_name", "", "at least 1 character"),
        ("file_name", "a\nb", "control characters"),
        ("file_size", 0, "greater than 0"),
        ("file_size", -1, "greater than 0"),
        ("file_size", 1.5, "integer"),
        ("file_size", "many", "integer"),
        ("file_size", 11 * 1024**3, "at most 524,288,000"),
        ("file_size", 10**30, ""),
        ("format", "csv", "There is no training format called 'csv'"),
        ("format", 7, "string"),
        ("sha256", "abc", "pattern"),
        ("description", "a\u0000b", "NUL"),
    ],
)
def test_a_bad_field_is_named_with_what_is_wrong(owner: Member, field: str, value: Any, says: str) -> None:
    body = {"name": "n", "file_name": "f.jsonl", "file_size": 3, field: value}
    answer = owner.client.post("/api/datasets", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    failure = answer.json()
    assert failure["code"] == "validation_error"
    assert list(failure["details"]) == [field]
    assert says in failure["details"][field][0]


def test_a_missing_field_and_a_broken_body_are_told(owner: Member) -> None:
    answer = owner.client.post("/api/datasets", json={})
    assert answer.json()["details"].keys() == {"name", "file_name", "file_size"}
    broken = owner.client.post("/api/datasets", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, list(broken.json()["details"])) == (400, ["body"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"This is a letter,\nnot data.\n", "unknown_format"),
        (b"\n\n  \n", "empty_file"),
        (a_zip(), "binary_file"),
        (gzip.compress(chat_file()), "binary_file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "binary_file"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(200), "binary_file"),
        (bytes(1000), "binary_file"),
        (chat_file().decode().encode("utf-16"), "wrong_encoding"),
        (lines_of({"a": 1}, {"b": 2}), "unknown_format"),
        (b"[]", None),
    ],
    ids=["not-json", "blank", "zip", "gzip", "png", "pdf", "zeros", "utf-16", "no-known-fields", "empty-array"],
)
def test_what_is_no_training_file_ends_in_error_and_says_why(owner: Member, content: bytes, code: str | None) -> None:
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "error"
    assert dataset["training_ready"] is False
    assert dataset["error_message"]
    if code is not None:
        assert code in {issue["code"] for issue in dataset["validation_errors"]}
        assert dataset["error_code"] == code


@pytest.mark.parametrize(
    ("bad_line", "code"),
    [
        (b'{"messages": [{"role": "user", "content": "caf\xe9"}]}', "invalid_utf8"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', "lone_surrogate"),
        (b"[" * 10_000 + b"]" * 10_000, "nesting_too_deep"),
        (b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nesting_too_deep"),
        (b'{"messages": [', "broken_json"),
        (b'{"messages": "text"}', "wrong_type"),
        (b'["a", "list"]', "not_an_object"),
    ],
    ids=["utf8", "surrogate", "deep", "deep-inside", "cut", "wrong-type", "not-object"],
)
def test_one_bad_line_is_found_at_its_line(owner: Member, bad_line: bytes, code: str) -> None:
    dataset = upload_and_validate(owner.client, lines_of(CHAT, bad_line, CHAT | {"n": 1}))
    assert dataset["status"] == "error"
    assert dataset["error_code"] == "validation_failed"
    assert [(issue["line"], issue["code"]) for issue in dataset["validation_errors"]] == [(2, code)]
    assert "line 2" in dataset["error_message"]


def test_bom_and_crlf_are_read_and_told(owner: Member) -> None:
    content = b"\xef\xbb\xbf" + chat_file().replace(b"\n", b"\r\n")
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "ready"
    assert dataset["total_records"] == 3
    assert {"byte_order_mark", "crlf_lines"} <= dataset["issue_counts"].keys()
    assert dataset["validation_errors"] is None


def test_nul_characters_in_the_text_do_not_hurt_the_database(owner: Member) -> None:
    line = {"messages": [{"role": "user", "content": "a\u0000b"}, {"role": "assistant", "content": "c\u0000d"}]}
    dataset = upload_and_validate(owner.client, lines_of(line))
    assert dataset["status"] in {"ready", "error"}
    assert dataset["sample_data"][0]["messages"][0]["content"] == "a␀b"


def test_a_declared_format_that_contradicts_the_content_is_an_error_that_says_so(owner: Member) -> None:
    dataset = upload_and_validate(owner.client, chat_file(), format="alpaca")
    assert (dataset["status"], dataset["error_code"]) == ("error", "format_mismatch")
    assert "alpaca" in dataset["error_message"]
    assert "openai_messages" in dataset["error_message"]


@pytest.mark.slow
def test_two_hundred_megabytes_on_one_line_end_in_error(owner: Member) -> None:
    content = b'{"messages": [{"role": "user", "content": "' + b"a" * (200 * 1024 * 1024) + b'"}]}'
    dataset = upload_and_validate(owner.client, content)
    assert dataset["status"] == "error"
    assert "record_too_long" in dataset["issue_counts"]


def test_a_body_of_another_size_is_refused_and_nothing_is_stored(owner: Member) -> None:
    content = chat_file()
    created = data(announce(owner.client, content))
    for wrong, status in ((content[:-1], 400), (content + b"x", 413), (b"", 400)):
        refused = put(created, wrong)
        assert refused.status_code == status, refused.text
        assert f"{len(content):,}" in refused.json()["error"]
    dataset_id = created["dataset"]["id"]
    answer = confirm(owner.client, dataset_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_incomplete")
    dataset = get(owner.client, dataset_id)
    assert (dataset["status"], dataset["error_code"]) == ("error", "upload_incomplete")
    # Nothing is lost: the right bytes are still welcome.
    assert put(created, content).status_code == 200
    assert confirm(owner.client, dataset_id).status_code == 200


def test_a_body_with_another_hash_is_refused_and_nothing_is_stored(owner: Member) -> None:
    content = chat_file()
    digest = hashlib.sha256(content).hexdigest()
    created = data(announce(owner.client, content, sha256=digest.upper()))
    assert created["dataset"]["declared_sha256"] == digest
    refused = put(created, content.replace(b"About", b"Maybe"))
    assert (refused.status_code, refused.json()["code"]) == (400, "hash_mismatch")
    assert confirm(owner.client, created["dataset"]["id"]).status_code == 409
    assert get(owner.client, created["dataset"]["id"])["status"] == "error"
    assert owner.client.get(f"/api/datasets/{created['dataset']['id']}/download").status_code == 409


def test_parts_with_another_hash_are_refused_as_a_whole_and_can_be_sent_again(owner: Member) -> None:
    content = chat_file()
    created = data(announce(owner.client, content, sha256=hashlib.sha256(content).hexdigest()))
    multipart = created["multipart"]
    httpx2.put(multipart["parts"][0]["url"], content=content.replace(b"About", b"Maybe"))
    assert httpx2.post(multipart["complete_url"]).json()["code"] == "hash_mismatch"
    again = data(owner.client.get(f"/api/datasets/{created['dataset']['id']}/upload"))["multipart"]
    assert again["upload_id"] != multipart["upload_id"]
    httpx2.put(again["parts"][0]["url"], content=content)
    assert httpx2.post(again["complete_url"]).status_code == 200
    assert confirm(owner.client, created["dataset"]["id"]).status_code == 200


def test_an_altered_url_is_refused(owner: Member) -> None:
    created = data(announce(owner.client, chat_file()))
    other = created["uploadUrl"].replace("kiln.jsonl", "other.jsonl")
    assert httpx2.put(other, content=chat_file()).status_code == 403


def test_unknown_filters_and_sorts_are_told(owner: Member) -> None:
    for query, field in (
        ({"status": "lost"}, "status"),
        ({"sort": "password"}, "sort"),
        ({"limit": "101"}, "limit"),
        ({"page": "0"}, "page"),
        ({"format": "csv"}, "format"),
    ):
        answer = owner.client.get("/api/datasets", params=query)
        assert (answer.status_code, list(answer.json()["details"])) == (400, [field]), query
    assert owner.client.get("/api/datasets/not-an-id").status_code == 404


def test_a_report_is_asked_for_too_early(owner: Member) -> None:
    dataset_id = upload(owner.client, chat_file())
    for path in ("validation", "issues", "issues/download"):
        answer = owner.client.get(f"/api/datasets/{dataset_id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_validated")


def test_the_server_lives_after_all_that(live: Live) -> None:
    assert live.client().get("/healthz").status_code == 200
