"""Models over HTTP: find, name, archive, delete, restore; files and package; nobody else's."""

import hashlib
import io
import json
import re
import threading
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from model_steps import Finished, data, finish_job, wait_for

from brightrun.accounts.roles import Role
from brightrun.storage import Bucket, open_store
from live import Live, Member


@pytest.fixture
def model(finished: Finished) -> dict[str, Any]:
    """A registered model of the workspace of `finished`."""
    finished.hand_over()
    assert finished.ended()["status"] == "completed"
    return finished.model()


def package(member: Member, model: dict[str, Any]) -> zipfile.ZipFile:
    answer = member.client.get(f"/api/models/{model['id']}/download")
    assert answer.status_code == 200, answer.text
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_a_list_is_paged_sorted_searched_and_filtered(live: Live, owner: Member, trained_run: Path):
    jobs = [finish_job(live, owner, trained_run) for _ in range(3)]
    names = ["Crème brûlée", "adviser 50% off", "Bakery"]
    for job, name in zip(jobs, names, strict=True):
        job.hand_over()
        job.ended()
        job.owner.client.patch(f"/api/models/{job.job['model_id']}", json={"name": name})

    def listed(**filters: Any) -> list[str]:
        return [row["name"] for row in data(owner.client.get("/api/models", params=filters))["items"]]

    assert listed() == names[::-1], "newest first"
    assert listed(sort="name") == ["adviser 50% off", "Bakery", "Crème brûlée"]
    assert listed(search="CRÈME") == ["Crème brûlée"]
    assert listed(search="50%") == ["adviser 50% off"]
    assert listed(search="Adviser talk", sort="created_at") == names, "the dataset's name counts too"
    assert listed(dataset_id=str(jobs[0].dataset_id)) == ["Crème brûlée"]
    assert listed(verdict="improved", sort="improvement", limit=2, page=2) != []
    assert listed(verdict="worse") == []
    assert listed(base_model="tiny-random") == []
    first = data(owner.client.get("/api/models"))["items"][0]
    assert first["files"] is None
    assert first["configuration"] is None
    assert first["dataset"]["name"] == "Adviser talk"
    answer = owner.client.get("/api/models", params={"sort": "secret"})
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")


def test_name_description_and_status_can_be_changed(owner: Member, model: dict[str, Any]):
    path = f"/api/models/{model['id']}"
    changed = data(owner.client.patch(path, json={"name": " Ada ", "description": "For\nthe bank"}))["model"]
    assert (changed["name"], changed["description"]) == ("Ada", "For\nthe bank")
    assert data(owner.client.patch(path, json={"description": None, "name": None}))["model"]["description"] is None
    assert data(owner.client.get(path))["model"]["name"] == "Ada"
    assert data(owner.client.patch(path, json={"status": "archived"}))["model"]["status"] == "archived"
    assert data(owner.client.get("/api/models", params={"status": "stored"}))["total"] == 0
    assert data(owner.client.get("/api/models", params={"status": "archived"}))["total"] == 1
    for body in ({"name": ""}, {"name": "x" * 256}, {"name": "a\nb"}, {"status": "deployed"}, {"version": "9"}):
        answer = owner.client.patch(path, json=body)
        assert answer.status_code == 400, body
        assert set(answer.json()["details"]) == set(body)


def test_a_deleted_model_is_in_the_trash_and_comes_back(owner: Member, model: dict[str, Any], finished: Finished):
    path = f"/api/models/{model['id']}"
    assert data(owner.client.delete(path))["model"]["deleted_at"]
    assert owner.client.get(path).status_code == 404
    assert owner.client.get(f"{path}/download").status_code == 404
    assert data(owner.client.get("/api/models"))["total"] == 0
    assert data(owner.client.get("/api/models", params={"deleted": True}))["total"] == 1
    assert owner.client.delete(path).status_code == 404
    assert data(owner.client.post(f"{path}/restore"))["model"]["deleted_at"] is None
    assert data(owner.client.post(f"{path}/restore"))["model"]["id"] == model["id"]
    assert data(owner.client.get(path))["model"] | {"updated_at": ""} == model | {"updated_at": ""}


def test_what_needs_a_model_keeps_it_from_being_deleted(
    owner: Member, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from brightrun.models import service

    async def guard(_session: Any, _model: Any) -> str | None:
        return "The endpoint “support” serves it. Stop that first."

    monkeypatch.setattr(service, "deletion_guards", [guard])
    answer = owner.client.delete(f"/api/models/{model['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "model_in_use")
    assert "support" in answer.json()["error"]


def test_each_file_has_a_signed_url_that_gives_it(owner: Member, model: dict[str, Any], finished: Finished):
    found = data(owner.client.get(f"/api/models/{model['id']}/files"))
    assert found["expires_in_s"] == 3600
    assert {file["name"] for file in found["files"]} == {file["name"] for file in model["files"]}
    for file in found["files"]:
        content = httpx2.get(file["url"]).content
        assert hashlib.sha256(content).hexdigest() == file["sha256"]


def test_the_package_is_whole_and_says_how_long_it_is(owner: Member, model: dict[str, Any], finished: Finished):
    answer = owner.client.get(f"/api/models/{model['id']}/download")
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "filename*=UTF-8''Adviser%20talk" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        assert opened.testzip() is None
        names = set(opened.namelist())
        assert names == {file["name"] for file in model["files"]} | {
            "README.md", "training_summary.json", "SHA256SUMS"
        }  # fmt: skip
        sums = dict(reversed(line.split("  ")) for line in opened.read("SHA256SUMS").decode().splitlines())
        assert sums == {name: hashlib.sha256(opened.read(name)).hexdigest() for name in names if name != "SHA256SUMS"}
        summary = json.loads(opened.read("training_summary.json"))
        assert summary["quality"] == model["quality_metrics"]
        assert summary["training"] == model["training_summary"]
        weights = opened.getinfo("adapter_model.safetensors")
        assert weights.compress_type == zipfile.ZIP_STORED
        assert opened.read("adapter_model.safetensors") == (
            finished.run_dir / "adapter" / "adapter_model.safetensors"
        ).read_bytes()  # fmt: skip


def test_the_same_model_gives_the_same_package(owner: Member, model: dict[str, Any]):
    path = f"/api/models/{model['id']}/download"
    first, second = owner.client.get(path), owner.client.get(path)
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    owner.client.patch(f"/api/models/{model['id']}", json={"name": "Ada"})
    renamed = owner.client.get(path)
    assert renamed.headers["etag"] != first.headers["etag"]
    assert zipfile.ZipFile(io.BytesIO(renamed.content)).read("README.md").startswith(b"# Ada, version 1.0.0\n")


def test_a_cut_download_goes_on_where_it_ended(owner: Member, model: dict[str, Any]):
    path = f"/api/models/{model['id']}/download"
    whole = owner.client.get(path)
    size, etag = len(whole.content), whole.headers["etag"]
    for asked, expected in (
        ("bytes=100000-", whole.content[100_000:]),
        ("bytes=0-0", whole.content[:1]),
        (f"bytes=-{1000}", whole.content[-1000:]),
        (f"bytes=5-{size + 5}", whole.content[5:]),
    ):
        part = owner.client.get(path, headers={"Range": asked, "If-Range": etag})
        assert (part.status_code, part.content) == (206, expected), asked
        start = size - len(expected) if asked.startswith(("bytes=-", "bytes=1", "bytes=5")) else 0
        assert part.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"
    beyond = owner.client.get(path, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    changed = owner.client.get(path, headers={"Range": "bytes=5-", "If-Range": '"of another state"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    for odd in ("bytes=1-2,5-6", "lines=1-2", "bytes=-", "bytes=9-3"):
        answer = owner.client.get(path, headers={"Range": odd})
        assert answer.status_code in {200, 416}, odd


def test_the_readme_loads_the_adapter_and_it_answers(
    owner: Member, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Finished
):
    """The README's own lines, in the unpacked folder."""
    import torch
    from peft import PeftModel

    with package(owner, model) as opened:
        opened.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    readme = (tmp_path / "README.md").read_text()
    load, ask = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    made: dict[str, Any] = {}
    exec(load, made)
    assert isinstance(made["model"], PeftModel)
    exec(ask.replace("max_new_tokens=200", "max_new_tokens=5"), made)
    ids = made["inputs"]["input_ids"]
    with torch.no_grad():
        adapted = made["model"](ids).logits
        with made["model"].disable_adapter():
            plain = made["model"](ids).logits
    assert not torch.allclose(adapted, plain)


def test_the_readme_says_what_is_proven_and_where_it_comes_from(owner: Member, model: dict[str, Any]):
    with package(owner, model) as opened:
        readme = opened.read("README.md").decode()
    quality = model["quality_metrics"]
    for said in (
        "**Improved on held-out conversations.**",
        f"{quality['heldout_loss_adapter']:.4f}",
        "12 conversations",
        "95 % interval",
        "Adviser talk",
        model["configuration"]["dataset"]["sha256"],
        model["base_model_details"]["sha256"],
        model["id"],
        "“Not proven” means",
        "SHA256SUMS",
    ):
        assert said in readme, said
    assert "None" not in readme
    assert all(len(line) < 400 for line in readme.splitlines())


@pytest.mark.parametrize(
    ("base", "load"),
    [
        ({"name": "org/model", "kind": "hub", "revision": "abc"}, 'from_pretrained("org/model", revision="abc")'),
        ({"name": "org/model", "kind": "hub_cache", "revision": None}, 'from_pretrained("org/model")'),
        ({"name": "our-base", "kind": "folder", "revision": None}, 'from_pretrained("path/to/our-base")'),
        ({"name": 'odd"name', "kind": "folder", "revision": None}, r'from_pretrained("path/to/odd\"name")'),
        ({"name": "tiny-random", "kind": "builtin", "revision": None}, "torch.manual_seed(7)"),
    ],
)
def test_the_readme_says_how_to_get_each_kind_of_base_model(
    live: Live, owner: Member, model: dict[str, Any], base: dict[str, Any], load: str
):
    from sqlalchemy import update

    from brightrun.models.tables import ModelArtifact

    async def change(database: Any) -> None:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            await session.execute(update(ModelArtifact).values(base_model=base | {"sha256": None}))

    live.run(change)
    with package(owner, model) as opened:
        readme = opened.read("README.md").decode()
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert load in code
    compile(code, "README.md", "exec")
    assert "SHA-256 over its files" not in readme


def test_a_download_is_written_down_once_however_often_it_goes_on(live: Live, owner: Member, model: dict[str, Any]):
    from sqlalchemy import select

    from brightrun.audit.tables import AuditEntry

    path = f"/api/models/{model['id']}/download"
    owner.client.get(path)
    owner.client.get(path, headers={"Range": "bytes=10-"})

    async def count(database: Any) -> int:
        async with database.transaction(user_id=owner.user_id, workspace_id=owner.workspace_id) as session:
            rows = await session.scalars(select(AuditEntry).where(AuditEntry.action == "model.downloaded"))
            return len(rows.all())

    assert live.run(count) == 1


def test_a_missing_or_damaged_file_is_said_before_the_first_byte(live: Live, owner: Member, model: dict[str, Any]):
    store = open_store(live.settings, public_url=live.url, secret=live.secret)
    path = f"{model['storage_path']}/tokenizer.json"
    store.put_bytes(Bucket.LORA_MODELS, path, b"other")
    answer = owner.client.get(f"/api/models/{model['id']}/download")
    assert (answer.status_code, answer.json()["code"]) == (503, "model_files_damaged")
    assert "tokenizer.json" in answer.json()["error"]
    store.delete(Bucket.LORA_MODELS, path)
    answer = owner.client.get(f"/api/models/{model['id']}/download")
    assert (answer.status_code, answer.json()["code"]) == (503, "model_files_damaged")


def test_a_viewer_reads_and_downloads_and_changes_nothing(live: Live, owner: Member, model: dict[str, Any]):
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    path = f"/api/models/{model['id']}"
    assert viewer.client.get(path).status_code == 200
    assert viewer.client.get(f"{path}/download").status_code == 200
    assert viewer.client.patch(path, json={"name": "x"}).status_code == 403
    assert viewer.client.delete(path).status_code == 403
    assert viewer.client.post(f"{path}/restore").status_code == 403


def test_another_workspace_meets_404_as_for_a_model_that_never_was(live: Live, model: dict[str, Any]):
    stranger = live.new_workspace()
    assert data(stranger.client.get("/api/models"))["items"] == []
    for method, path in (
        ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/restore"), ("GET", "/files"), ("GET", "/download"),
    ):  # fmt: skip
        body = {"json": {"name": "mine"}} if method == "PATCH" else {}
        foreign = stranger.client.request(method, f"/api/models/{model['id']}{path}", **body)
        absent = stranger.client.request(method, f"/api/models/{uuid4()}{path}", **body)
        assert foreign.status_code == absent.status_code == 404, (method, path)
        assert foreign.json() == absent.json()


def test_live_pages_hear_of_a_new_model(owner: Member, finished: Finished):
    kinds: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        with owner.client.stream("GET", "/api/events", params={"topics": "models"}) as stream:
            listening.set()
            for line in stream.iter_lines():
                if line.startswith("event: model."):
                    kinds.append(line.removeprefix("event: "))
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(10)
    finished.hand_over()
    wait_for(lambda: kinds, what="the event")
    thread.join(10)
    assert kinds == ["model.created"]
