"""Packs in a workspace: loaded, edited in versions, exported and taken in again."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from brightrun.accounts.roles import Role
from brightrun.scaffolding.archive import pack_from_zip
from brightrun.scaffolding.pack_files import builtin_pack
from live import Live, Member

BARE = {"Content-Type": "application/zip"}


def thing(member: Member, kind: str, key: str, pack: str = "it_help_desk") -> dict[str, Any]:
    answer = member.client.get(f"/api/scaffolding/{kind}", params={"pack": pack, "search": key, "limit": 100})
    assert answer.status_code == 200, answer.text
    [found] = [one for one in answer.json()["data"]["items"] if one["key"] == key]
    return found


def put(member: Member, kind: str, found: dict[str, Any], **changes: Any) -> Any:
    body = {"content": found["content"] | changes, "base_version": found["version"]}
    return member.client.put(f"/api/scaffolding/{kind}/{found['id']}", json=body)


def test_the_first_look_loads_the_built_in_packs_once(live: Live):
    owner = live.new_workspace()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: owner.client.get("/api/packs"), range(4)))
    packs = {
        tuple(sorted((pack["key"], pack["things"]["templates"]) for pack in a.json()["data"]["packs"])) for a in answers
    }
    assert packs == {(("financial_planning", 10), ("it_help_desk", 4))}
    assert len(thing(owner, "personas", "hurried_manager")["content"]["typical_questions"]) == 5


def test_an_edit_is_a_new_version_and_the_old_one_stays_readable(live: Live):
    owner = live.new_workspace()
    found = thing(owner, "personas", "hurried_manager")
    changed = put(owner, "personas", found, name="Ruth Berg")
    assert changed.status_code == 200, changed.text
    assert changed.json()["data"]["thing"]["version"] == 2
    again = put(owner, "personas", changed.json()["data"]["thing"], name="Ruth Berg")
    assert again.json()["data"]["thing"]["version"] == 2, "what changes nothing makes no version"
    path = f"/api/scaffolding/personas/{found['id']}"
    assert owner.client.get(path, params={"version": 1}).json()["data"]["thing"]["name"] == "Ruth Lindqvist"
    history = owner.client.get(f"{path}/versions").json()["data"]["versions"]
    assert [(one["version"], one["current"], one["name"]) for one in history] == [
        (2, True, "Ruth Berg"), (1, False, "Ruth Lindqvist"),
    ]  # fmt: skip


def test_of_two_who_edit_the_same_version_one_is_told(live: Live):
    owner = live.new_workspace()
    found = thing(owner, "training-topics", "lost_file")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda n: put(owner, "training-topics", found, name=f"Lost file {n}"), range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert thing(owner, "training-topics", "lost_file")["version"] == 2


def test_what_would_break_the_pack_is_refused_with_the_place(live: Live):
    owner = live.new_workspace()
    found = thing(owner, "emotional-arcs", "panic_to_control")
    answer = put(owner, "emotional-arcs", found, suitable_topics=["no_topic"])
    assert answer.status_code == 400
    assert "there is no 'no_topic' in the pack" in answer.text
    answer = put(owner, "emotional-arcs", found, turns={"min": 9, "max": 2}, colour="red")
    assert answer.json()["details"].keys() == {"turns", "colour"}
    answer = put(owner, "emotional-arcs", found, key="other_key")
    assert answer.json()["details"] == {"key": ["must stay 'panic_to_control'"]}


def test_a_template_that_nothing_fills_is_saved_only_inactive(live: Live):
    owner = live.new_workspace()
    found = thing(owner, "templates", "steady_hands")
    text = found["content"]["text"] + "\n{{ favourite_colour }}"
    answer = put(owner, "templates", found, text=text)
    assert (answer.status_code, answer.json()["code"]) == (400, "template_unfilled")
    assert "favourite_colour" in answer.text
    saved = put(owner, "templates", found, text=text, active=False)
    assert saved.status_code == 200
    path = f"/api/scaffolding/templates/{found['id']}"
    assert owner.client.post(f"{path}/activate").status_code == 400
    variables = [*found["content"]["variables"], {"name": "favourite_colour", "default": "green"}]
    mended = put(owner, "templates", saved.json()["data"]["thing"], variables=variables)
    assert mended.status_code == 200, mended.text
    assert owner.client.post(f"{path}/activate").json()["data"]["thing"]["active"] is True


def test_a_topic_that_leaves_a_template_unfilled_cannot_be_switched_off_by_accident(live: Live):
    """Switching the last template of an arc off is allowed: the choice then says what is missing."""
    owner = live.new_workspace()
    found = thing(owner, "templates", "steady_hands")
    assert owner.client.post(f"/api/scaffolding/templates/{found['id']}/deactivate").status_code == 200
    body = {
        "pack": "it_help_desk", "persona": "hurried_manager", "arc": "panic_to_control", "topic": "lost_file",
    }  # fmt: skip
    answer = owner.client.post("/api/scaffolding/check-compatibility", json=body).json()["data"]["combination"]
    assert answer["choice"] is None
    assert "no active template" in answer["problem"]


def test_a_duplicate_is_inactive_and_has_a_key_of_its_own(live: Live):
    owner = live.new_workspace()
    found = thing(owner, "templates", "steady_hands")
    path = f"/api/scaffolding/templates/{found['id']}/duplicate"
    made = owner.client.post(path, json={"key": "steadier_hands", "name": "Steadier hands"})
    assert made.status_code == 201, made.text
    assert made.json()["data"]["thing"]["active"] is False
    assert owner.client.post(path, json={"key": "steadier_hands", "name": "Again"}).status_code == 409


def test_a_pack_that_is_exported_and_taken_in_elsewhere_is_equal(live: Live):
    owner, other = live.new_workspace(), live.new_workspace()
    put(owner, "personas", thing(owner, "personas", "hurried_manager"), name="Ruth Berg")
    export = owner.client.get("/api/packs/export", params={"pack": "it_help_desk"})
    assert export.headers["content-type"] == "application/zip"
    taken = other.client.post("/api/packs/import", content=export.content, headers=BARE)
    assert taken.status_code == 200, taken.text
    loaded = taken.json()["data"]["loaded"]
    assert (loaded["added"], loaded["changed"], loaded["unchanged"]) == (0, 1, 1 + 2 + 4 + 11 + 4)
    again = other.client.post("/api/packs/import", content=export.content, headers=BARE).json()["data"]["loaded"]
    assert (again["added"], again["changed"]) == (0, 0)
    assert other.client.get("/api/packs/export", params={"pack": "it_help_desk"}).content == export.content
    assert pack_from_zip(export.content).persona("hurried_manager").name == "Ruth Berg"
    text = b"".join(
        zipfile.ZipFile(io.BytesIO(export.content)).read(n)
        for n in zipfile.ZipFile(io.BytesIO(export.content)).namelist()
    )
    for secret in (owner.email, str(owner.user_id), str(owner.workspace_id), owner.token):
        assert secret.encode() not in text


def test_loading_a_built_in_pack_again_brings_it_back_as_it_came(live: Live):
    owner = live.new_workspace()
    put(owner, "personas", thing(owner, "personas", "hurried_manager"), name="Ruth Berg")
    content = thing(owner, "personas", "hurried_manager")["content"] | {"key": "extra_person"}
    owner.client.post("/api/scaffolding/personas", json={"pack": "it_help_desk", "content": content})
    loaded = owner.client.post("/api/packs/load", json={"key": "it_help_desk"}).json()["data"]["loaded"]
    assert (loaded["added"], loaded["changed"]) == (0, 2)
    assert thing(owner, "personas", "hurried_manager")["name"] == "Ruth Lindqvist"
    assert thing(owner, "personas", "extra_person")["active"] is False


def test_a_bad_zip_is_refused_with_every_place(live: Live):
    owner = live.new_workspace()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("my_pack/pack.yaml", "format: 1\nkey: my pack\n")
        archive.writestr("my_pack/../../etc/passwd", "x")
    answer = owner.client.post("/api/packs/import", content=buffer.getvalue(), headers=BARE)
    assert (answer.status_code, answer.json()["code"]) == (400, "pack_invalid")
    assert {"pack.yaml", "personas.yaml", "../../etc/passwd"} <= answer.json()["details"].keys()
    assert owner.client.post("/api/packs/import", content=b"no zip", headers=BARE).status_code == 400


def test_the_preview_is_what_would_be_sent(live: Live):
    owner = live.new_workspace()
    body = {
        "pack": "financial_planning", "persona": "anxious_planner", "arc": "fear_to_confidence",
        "topic": "market_crash_fears", "values": {"topic_security_indicators": "nine months of cash"},
    }  # fmt: skip
    answer = owner.client.post("/api/scaffolding/preview", json=body)
    assert answer.status_code == 200, answer.text
    preview = answer.json()["data"]["preview"]
    assert "Jennifer Martinez" in preview["prompt"]
    assert "nine months of cash" in preview["prompt"]
    assert "Elena Morales" in preview["system"]
    content = dict(thing(owner, "templates", "fear_investment_anxiety", "financial_planning")["content"])
    answer = owner.client.post("/api/scaffolding/preview", json=body | {"content": content | {"text": "{{ nothing }}"}})
    assert (answer.status_code, answer.json()["code"]) == (400, "variable_unfilled")
    answer = owner.client.post("/api/scaffolding/preview", json=body | {"persona": "nobody"})
    assert answer.json()["details"].keys() == {"persona"}


def test_a_plan_is_drawn_without_storing_anything(live: Live):
    owner = live.new_workspace()
    body = {"pack": "financial_planning", "quotas": {"total": 12}, "seed": 3}
    first, second = (owner.client.post("/api/packs/plan", json=body).json()["data"]["plan"] for _ in range(2))
    assert first == second
    assert len(first["items"]) == 12
    grid = owner.client.get("/api/packs/coverage", params={"pack": "financial_planning"}).json()["data"]["coverage"]
    assert len(grid["cells"]) == 30
    assert {cell["written"] for cell in grid["cells"]} == {0}
    answer = owner.client.post("/api/packs/plan", json=body | {"quotas": {"total": 2, "arcs": ["x"]}})
    assert answer.json()["details"] == {"arcs": ["there is no 'x' in the pack"]}


def test_a_viewer_reads_and_changes_nothing(live: Live):
    owner = live.new_workspace()
    viewer = live.new_member(owner.workspace_id, Role.VIEWER)
    found = thing(viewer, "personas", "hurried_manager")
    assert put(viewer, "personas", found, name="x").status_code == 403


def test_packs_of_two_workspaces_are_apart(live: Live):
    owner, other = live.new_workspace(), live.new_workspace()
    put(owner, "personas", thing(owner, "personas", "hurried_manager"), name="Ruth Berg")
    assert thing(other, "personas", "hurried_manager")["name"] == "Ruth Lindqvist"
    assert builtin_pack("it_help_desk").persona("hurried_manager").name == "Ruth Lindqvist"
