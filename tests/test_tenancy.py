"""Walks the OpenAPI document: every route, as every role, and as somebody of another workspace.

A new route is covered without a line here. Bodies are minimal: permission and ownership are decided before the body's
meaning, so a role that may answers anything but 401 and 403.
"""

import re
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import select

from brightrun.accounts.roles import PERMISSIONS, Permission, Role
from brightrun.db.session import Database
from brightrun.ids import uuid7
from brightrun.models.tables import ModelArtifact
from brightrun.notifications import NotificationType, notify
from brightrun.notifications.tables import Delivery, Notification
from datasets.dataset_steps import upload_and_validate
from generation.generation_steps import add_generation
from live import Live, Member
from waiting import eventually

CONVERSATIONS = b"".join(
    b'{"messages":[{"role":"user","content":"Question %d"},{"role":"assistant","content":"Answer %d"}]}\n' % (n, n)
    for n in (0, 1, 2, 3, 0)  # the last is a warning, which can be dismissed
)
SECRETS = (
    "secret dataset", "secret model", "secret notification", "secret reason", "secret template", "secret batch",
    "secret conversation", "secret failure", "secret note",
)  # fmt: skip
Operation = tuple[str, str, dict[str, Any]]
METHODS = {"get", "post", "put", "patch", "delete"}
# Streams that do not end by themselves; asked with a token that may not, they answer at once.
STREAMS = {"/api/events"}
# Answer whoever asks: they are how one becomes somebody.
OPEN = {"/api/auth/signin", "/api/invitations/accept"}
# Any member may; what they do there is checked in the handler and tested in tests/accounts.
ANY_MEMBER = {"/api/auth/signout"}
# Path parameters that say where in a thing, and are nobody's.
PLACES = {"line": "1", "kind": "templates", "provider": "anthropic"}


def operations(live: Live) -> list[Operation]:
    document = live.client().get("/api/openapi.json").json()
    return [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def fill(path: str, values: dict[str, str]) -> str:
    return re.sub(
        r"\{([^}:]+)[^}]*\}", lambda match: values.get(match[1]) or PLACES.get(match[1]) or str(uuid4()), path
    )


def ask(client: httpx2.Client, method: str, path: str) -> httpx2.Response:
    if path in STREAMS:
        with client.stream(method, path) as response:
            if response.status_code != 200:
                response.read()
            return response
    body = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
    return client.request(method, path, follow_redirects=False, **body)


def test_every_route_says_which_permission_it_needs(live: Live):
    known = {permission.value for permission in Permission}
    for method, path, operation in operations(live):
        if path in OPEN | ANY_MEMBER:
            continue
        assert operation.get("x-permission") in known, f"{method} {path} names no permission"


def test_every_route_refuses_a_stranger(live: Live):
    stranger = live.client()
    for method, path, _operation in operations(live):
        if path not in OPEN:
            answer = ask(stranger, method, fill(path, {}))
            assert answer.status_code == 401, f"{method} {path} answered {answer.status_code} without a token"
            assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER, Role.TRAINER, Role.ADMIN])
def test_each_role_may_exactly_what_the_table_says(live: Live, role: Role):
    home = live.new_workspace()
    member = live.new_member(home.workspace_id, role)
    for method, path, operation in operations(live):
        permission = operation.get("x-permission")
        if permission is None:
            continue
        ids = {"workspace_id": str(home.workspace_id)}
        answer = ask(member.client, method, fill(path, ids))
        if Permission(permission) in PERMISSIONS[role]:
            assert answer.status_code != 401, f"{role} {method} {path}"
            if answer.status_code == 403:
                # Removing others and giving roles is decided by rank, in the handler.
                assert "members" in path or "invitations" in path, f"{role} {method} {path}: {answer.text}"
        else:
            assert answer.status_code == 403, f"{role} may not {permission}, yet {method} {path}: {answer.status_code}"
            assert answer.json()["code"] == "role"


def things_of(live: Live, owner: Member) -> dict[str, str]:
    """One of everything that has an id, in the owner's workspace: path parameter → id."""
    ids = {"workspace_id": str(owner.workspace_id), "user_id": str(owner.user_id)}
    made = owner.client.post("/api/tokens", json={"name": "t", "scopes": ["*"]}).json()["data"]
    ids["token_id"] = made["id"]
    body = {"email": "x@example.com", "role": "viewer"}
    path = f"/api/workspaces/{owner.workspace_id}/invitations"
    ids["invitation_id"] = owner.client.post(path, json=body).json()["data"]["invitation"]["id"]
    ids["dataset_id"] = str(upload_and_validate(owner.client, CONVERSATIONS, name="secret dataset")["id"])
    body = {"code": "duplicate_record", "reason": "secret reason"}
    path = f"/api/datasets/{ids['dataset_id']}/dismissals"
    ids["dismissal_id"] = owner.client.post(path, json=body).json()["data"]["dismissals"][0]["id"]
    body = {"dataset_id": ids["dataset_id"], "preset_id": "balanced", "base_model": "tiny-random"}
    job = owner.client.post("/api/jobs", json=body, headers={"Idempotency-Key": "t"}).json()["data"]["job"]
    # Cancelled at once: nothing here needs it to train.
    owner.client.post(f"/api/jobs/{job['id']}/cancel", json={})
    ids["job_id"] = job["id"]
    note = owner.client.post(f"/api/jobs/{job['id']}/notes", json={"text": "secret note"}).json()["data"]["note"]
    ids["note_id"] = note["id"]
    body = {"dataset_id": ids["dataset_id"], "base_model": "tiny-random"}
    probe = owner.client.post("/api/jobs/estimate/probes", json=body).json()["data"]["probe"]
    owner.client.post(f"/api/jobs/estimate/probes/{probe['id']}/cancel")  # nothing here needs it to run
    ids["probe_id"] = probe["id"]
    path = f"/api/jobs/{job['id']}"
    eventually("cancelled", lambda: owner.client.get(path).json()["data"]["job"]["status"] == "cancelled")
    body = {"dataset_id": ids["dataset_id"], "base_model": "tiny-random"}
    probe = owner.client.post("/api/jobs/estimate/probes", json=body).json()["data"]["probe"]
    ids["probe_id"] = probe["id"]
    path = f"/api/jobs/estimate/probes/{probe['id']}"
    owner.client.post(f"{path}/cancel", json={})
    ended = {"cancelled", "done", "failed"}
    eventually("probe ended", lambda: owner.client.get(path).json()["data"]["probe"]["status"] in ended)
    body = {"name": "secret template", "job_id": job["id"]}
    ids["template_id"] = owner.client.post("/api/training/templates", json=body).json()["data"]["template"]["id"]
    found = owner.client.get("/api/scaffolding/templates", params={"search": "steady_hands"}).json()["data"]["items"][0]
    body = {"content": found["content"] | {"name": "secret template"}, "base_version": 1}
    owner.client.put(f"/api/scaffolding/templates/{found['id']}", json=body)
    ids["thing_id"] = found["id"]
    body = {"url": "https://8.8.8.8/secret-hook", "types": ["system"]}
    ids["webhook_id"] = owner.client.post("/api/webhooks", json=body).json()["data"]["webhook"]["id"]
    ids["delivery_id"] = str(add_delivery(live, owner, ids["webhook_id"]))
    ids |= add_generation(live, owner)
    ids["model_id"], ids["notification_id"] = map(str, add_model_and_notification(live, owner, ids))
    return ids


def add_delivery(live: Live, owner: Member, webhook_id: str) -> UUID:
    """One that was given up: nothing is called."""

    async def add(database: Database) -> UUID:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            delivery = Delivery(
                id=uuid7(),
                workspace_id=owner.workspace_id,
                channel="webhook",
                webhook_id=UUID(webhook_id),
                status="failed",
            )
            session.add(delivery)
        return delivery.id

    found: UUID = live.run(add)
    return found


def add_model_and_notification(live: Live, owner: Member, ids: dict[str, str]) -> tuple[UUID, UUID]:
    """What only the worker makes, as it leaves them, without training a model for it. (model, notification)"""

    async def add(database: Database) -> tuple[UUID, UUID]:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            model = ModelArtifact(
                id=uuid7(), workspace_id=owner.workspace_id, job_id=UUID(ids["job_id"]),
                dataset_id=UUID(ids["dataset_id"]), name="secret model", version="1.0.0", version_number=1,
                storage_bucket="lora-models", storage_path=f"{owner.workspace_id}/models/{ids['job_id']}",
                files=[{"name": "README.md", "size": 3, "sha256": "0" * 64, "crc32": 0}], size_bytes=3,
                base_model={"name": "tiny-random", "kind": "builtin", "revision": None, "sha256": None},
                quality_metrics={}, training_summary={}, configuration={},
            )  # fmt: skip
            session.add(model)
            await session.flush()
            key = f"test:{model.id}"
            await notify(
                session, type=NotificationType.SYSTEM, title="secret notification", message="secret", dedupe_key=key
            )
            told = await session.scalar(select(Notification.id).where(Notification.dedupe_key == key))
            assert told is not None
            return model.id, told

    made: tuple[UUID, UUID] = live.run(add)
    return made


def parameters_of(path: str) -> list[str]:
    return re.findall(r"\{([^}:]+)", path)


def test_another_workspace_finds_nothing_through_any_route(live: Live):
    owner, other = live.new_workspace("First"), live.new_workspace("Second")
    ids = things_of(live, owner)
    unwalked = {name for _method, path, _operation in operations(live) for name in parameters_of(path)} - set(ids)
    unwalked -= set(PLACES)
    assert not unwalked, f"things_of makes nothing for {unwalked}: the walk below would ask for ids that nobody has"
    before = snapshot(owner, ids)
    for name in SECRETS:
        assert name in str(before), f"the owner does not see the {name}: that nobody else does would prove nothing"
    for method, path, operation in operations(live):
        if "x-permission" not in operation:
            continue
        parameters = parameters_of(path)
        answer = ask(other.client, method, fill(path, ids))
        owned = [name for name in parameters if name in ids]
        if owned:
            assert answer.status_code in {404, 400}, (
                f"{method} {path} answered {answer.status_code}: {answer.text[:300]}"
            )
        if path in STREAMS:
            continue
        for name, value in ids.items():
            # Echoing the id that was asked for is no leak; anything else of the first workspace is.
            assert name in owned or value not in answer.text, f"{method} {path} shows {name} of another workspace"
        for name in SECRETS:
            assert name not in answer.text, f"{method} {path} shows the {name}"
    assert snapshot(owner, ids) == before, "somebody of another workspace changed something"


def test_a_foreign_id_answers_exactly_as_an_absent_one(live: Live):
    owner, other = live.new_workspace("First"), live.new_workspace("Second")
    ids = things_of(live, owner)
    for method, path, operation in operations(live):
        parameters = [name for name in parameters_of(path) if name in ids]
        if "x-permission" not in operation or not parameters:
            continue
        absent = {name: str(UUID(int=uuid4().int)) for name in ids}
        foreign, unknown = (ask(other.client, method, fill(path, values)) for values in (ids, absent))
        assert foreign.status_code == unknown.status_code, f"{method} {path}"
        strip = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
        assert strip.sub("", foreign.text) == strip.sub("", unknown.text), f"{method} {path}"


def snapshot(owner: Member, ids: dict[str, str]) -> dict[str, Any]:
    """What the owner sees of it all; not what a worker may still be adding to by itself."""
    workspace = f"/api/workspaces/{ids['workspace_id']}"
    paths = {
        "dataset": f"/api/datasets/{ids['dataset_id']}",
        "dismissals": f"/api/datasets/{ids['dataset_id']}/dismissals",
        "model": f"/api/models/{ids['model_id']}",
        "job": f"/api/jobs/{ids['job_id']}",
        "notes": f"/api/jobs/{ids['job_id']}/notes",
        "template": f"/api/training/templates/{ids['template_id']}",
        "scaffolding": f"/api/scaffolding/templates/{ids['thing_id']}",
        "batch": f"/api/batch-jobs/{ids['batch_id']}",
        "failure": f"/api/failed-generations/{ids['failure_id']}",
        "conversation": f"/api/conversations/{ids['conversation_id']}",
        "notifications": "/api/notifications",
        "workspace": workspace,
        "members": f"{workspace}/members",
        "invitations": f"{workspace}/invitations",
    }
    seen: dict[str, Any] = {}
    for name, path in paths.items():
        answer = owner.client.get(path)
        assert answer.status_code == 200, f"the owner's own {name}: {answer.text}"
        seen[name] = answer.json()["data"]
    seen["job"] = {name: seen["job"]["job"][name] for name in ("id", "name", "status")}
    seen["notifications"] = [told for told in seen["notifications"]["items"] if told["id"] == ids["notification_id"]]
    return seen
