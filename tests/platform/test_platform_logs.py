"""The log of a running installation opens no door: no signature, token, one-time link, cookie or password is in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from platform_steps import announce, confirm, data, put_parts, records, upload, validated

from moto_process import moto_server
from up_process import Up

PASSWORD = "a password that nobody may read"


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    running = Up(data, BRIGHTRUN_LOG_LEVEL="debug")  # all of what the other levels say, and more
    yield running
    running.stop()


def submit(browser: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    """Fetch the form at `path`, fill it, send it."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', browser.get(path).text)
    assert found
    return browser.post(path, data={"csrf_token": found[1], **fields})


def signature(url: str) -> set[str]:
    """The secrets in a signed URL."""
    query = parse_qs(urlsplit(url).query)
    found = {value for name in ("signature", "sig", "X-Amz-Signature") for value in query.get(name, [])}
    assert found, f"no signature in {url}"
    return found


def last_part(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


def uploads(client: httpx2.Client) -> set[str]:
    """Every way of bytes in and out, gone right and gone wrong; the secrets of the way."""
    content = records()
    plain = announce(client, len(content))
    multipart = announce(client, len(content))
    secrets = signature(plain["uploadUrl"]) | signature(multipart["uploadUrl"])
    parts = multipart["multipart"]
    for url in (parts["complete_url"], parts["status_url"], *(part["url"] for part in parts["parts"])):
        secrets |= signature(url)
    httpx2.get(parts["status_url"])
    httpx2.put(plain["uploadUrl"], content=content)
    httpx2.put(plain["uploadUrl"], content=content + b"more")
    httpx2.get(plain["uploadUrl"])
    httpx2.put(plain["uploadUrl"] + "0", content=content)
    put_parts(parts, content)
    for dataset_id in (plain["dataset"]["id"], multipart["dataset"]["id"]):
        confirm(client, dataset_id)
        validated(client, dataset_id)
        location = client.get(f"/api/datasets/{dataset_id}/download").headers["location"]
        secrets |= signature(location)
        httpx2.get(location)
    return secrets


def accounts(up: Up) -> set[str]:
    """Sign in by link, invite, join, sign in by password, make and use a token, with mistakes; the secrets."""
    workspace = data(up.client.get("/api/me"))["workspace"]["id"]
    secrets = {PASSWORD, PASSWORD + " but wrong", up.ready["api_token"], last_part(up.ready["signin_url"])}
    browsers = [httpx2.Client(base_url=up.url, timeout=30) for _ in range(3)]
    assert submit(browsers[0], up.ready["signin_url"]).status_code == 303
    submit(browsers[1], up.ready["signin_url"])
    invitation = {"email": "new@example.com", "role": "trainer"}
    link = data(up.client.post(f"/api/workspaces/{workspace}/invitations", json=invitation))["link"]
    secrets.add(last_part(link))
    assert submit(browsers[1], link, name="New", password=PASSWORD).status_code == 303
    assert httpx2.get(link).status_code == 401
    httpx2.get(f"{up.url}/reset-password/{last_part(link)}")
    submit(browsers[2], "/signin", email="new@example.com", password=PASSWORD + " but wrong")
    assert submit(browsers[2], "/signin", email="new@example.com", password=PASSWORD).status_code == 303
    for browser in browsers:
        secrets |= {value for _name, value in browser.cookies.items()}
        secrets.add(browser.get("/api/me").headers["x-csrf-token"])
        assert browser.get("/").status_code == 200
    token = data(up.client.post("/api/tokens", json={"name": "script", "scopes": ["*"]}))["token"]
    secrets.add(token)
    httpx2.get(f"{up.url}/api/me", headers={"Authorization": f"Bearer {token}"})
    httpx2.get(f"{up.url}/api/me", headers={"Authorization": f"Bearer {token[:-3]}abc"})
    httpx2.get(f"{up.url}/api/me", params={"token": token})  # a mistake people make
    httpx2.get(f"{up.url}/nothing/{token}", follow_redirects=True)
    return secrets


def log_of(up: Up) -> list[dict[str, Any]]:
    lines = (up.data / "up.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_tight(up: Up, secrets: set[str]) -> None:
    """None of the secrets, nor half of one, is in the log; the log is JSON lines, and tells what happened."""
    text = (up.data / "up.log").read_text()
    halves = {secret[: len(secret) // 2] for secret in secrets}
    leaks = [f"{half}… in: {line[:600]}" for half in halves for line in text.splitlines() if half in line]
    assert not leaks, "\n".join(sorted(leaks))
    lines = log_of(up)
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    requests = [line for line in lines if line["event"] == "request"]
    assert {"method", "path", "status", "ms", "request_id"} <= requests[0].keys()
    assert not re.search(r"set-cookie|bearer ", text, re.IGNORECASE)


@pytest.mark.slow
def test_a_journey_leaves_no_secret_in_the_log(up: Up) -> None:
    secrets = accounts(up) | uploads(up.client)
    assert len(secrets) > 15
    up.stop()
    assert_tight(up, {secret for secret in secrets if len(secret) >= 12})


@pytest.mark.slow
def test_no_presigned_url_of_s3_is_in_the_log_also_when_s3_fails(data: Path) -> None:
    with moto_server() as endpoint:
        up = Up(
            data,
            BRIGHTRUN_LOG_LEVEL="debug",
            BRIGHTRUN_STORAGE="s3",
            BRIGHTRUN_S3_ENDPOINT=endpoint,
            BRIGHTRUN_S3_BUCKET="everything",
            BRIGHTRUN_S3_ACCESS_KEY_ID="A" * 20,
            BRIGHTRUN_S3_SECRET_ACCESS_KEY="verysecretverysecretverysecretverysecret",
        )
        try:
            secrets = uploads(up.client) | {"verysecret"}
            gone = upload(up.client, records())
        except BaseException:
            up.stop()
            raise
    try:
        answer = up.client.get(f"/api/datasets/{gone['id']}/download")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    finally:
        up.stop()
    assert_tight(up, secrets)
