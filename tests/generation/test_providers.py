"""Keys, addresses and terms: kept encrypted, never told again, on record; by API, page and command line."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from brightrun.accounts.roles import Role
from brightrun.db.session import Database
from brightrun.llm import keys
from brightrun.llm.calls import NoKeyError, Provider
from brightrun.llm.tables import ProviderKey
from brightrun.llm.terms import VERSION, TermsNotAccepted, require
from brightrun.platform import derive_key
from installation import ROLE_PREFIX, TEST_SECRET
from live import Live, Member
from page_client import PageClient, words
from provider_server import running

SECRET = "sk-ant-api03-very-secret-0123456789-abcWXYZ"


def put(member: Member, provider: str, **body: Any) -> Any:
    return member.client.put(f"/api/providers/{provider}/key", json=body)


def listed(member: Member, provider: str) -> dict[str, Any]:
    found = member.client.get("/api/providers").json()["data"]["providers"]
    [one] = [entry for entry in found if entry["provider"] == provider]
    return one  # type: ignore[no-any-return]


def test_without_a_key_it_says_what_to_do(owner: Member) -> None:
    found = listed(owner, "anthropic")
    assert (found["key_source"], found["ready"]) == ("none", False)
    assert "ANTHROPIC_API_KEY" in found["problem"]
    assert "Settings › Providers" in found["problem"]
    assert found["terms"]["links"][0]["url"] == "https://www.anthropic.com/legal/commercial-terms"


def test_a_key_is_shown_by_its_last_four_and_kept_encrypted(
    live: Live, owner: Member, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [put(owner, "anthropic", key=f"  {SECRET}\n"), owner.client.get("/api/providers")]
    answers.append(owner.client.get("/api/audit"))
    assert all(answer.status_code == 200 for answer in answers), [answer.text for answer in answers]
    assert listed(owner, "anthropic")["last_four"] == "WXYZ"

    async def everything(database: Database) -> str:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            rows = [str(row) for row in await session.execute(text("select * from provider_keys"))]
            rows += [str(row) for row in await session.execute(text("select * from audit_log"))]
            found = await keys.access(
                session, live.settings, Provider.ANTHROPIC, with_key=derive_key(TEST_SECRET, keys.PURPOSE)
            )
            assert (found.key, found.source) == (SECRET, "workspace")
            rows.append(repr(found))
            return "\n".join(rows)

    said = live.run(everything) + "".join(answer.text for answer in answers) + caplog.text + "".join(capfd.readouterr())
    assert SECRET not in said
    assert "very-secret" not in said
    assert "provider.key_set" in said


def test_a_ciphertext_opens_only_where_it_was_sealed(live: Live, owner: Member) -> None:
    put(owner, "anthropic", key=SECRET)
    right = derive_key(TEST_SECRET, keys.PURPOSE)

    async def work(database: Database) -> None:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            row = await keys.stored(session, Provider.ANTHROPIC)
            assert row is not None
            assert row.secret is not None
            opened = {"workspace_id": owner.workspace_id, "provider": Provider.ANTHROPIC}
            assert keys.unseal(row.secret, with_key=right, **opened) == SECRET  # type: ignore[arg-type]
            for wrong in (
                {"with_key": derive_key(b"another secret 123", keys.PURPOSE), **opened},
                {"with_key": right, **opened, "provider": Provider.OPENAI},
                {"with_key": right, **opened, "workspace_id": row.id},
            ):
                with pytest.raises(NoKeyError, match="Enter it again"):
                    keys.unseal(row.secret, **wrong)  # type: ignore[arg-type]

    live.run(work)


@pytest.mark.parametrize(
    ("provider", "body", "field"),
    [
        ("anthropic", {"key": "short"}, "key"),
        ("anthropic", {"key": "with blanks in the middle"}, "key"),
        ("anthropic", {}, "key"),
        ("anthropic", {"key": SECRET, "base_url": "https://evil.example/v1"}, "base_url"),
        ("openai", {"key": SECRET}, "base_url"),
        ("openai", {"base_url": "file:///etc/passwd"}, "base_url"),
        ("openai", {"base_url": "https://user:password@host/v1"}, "base_url"),
    ],
)
def test_what_does_not_fit_is_named_and_a_key_is_not_repeated(
    owner: Member, provider: str, body: dict[str, str], field: str
) -> None:
    answer = put(owner, provider, **body)
    assert answer.status_code == 400
    assert list(answer.json()["details"]) == [field]
    assert "blanks in the middle" not in answer.text


def test_a_stored_key_does_not_follow_to_another_address(owner: Member) -> None:
    assert put(owner, "openai", key=SECRET, base_url="http://127.0.0.1:1/v1").status_code == 200
    moved = put(owner, "openai", base_url="http://127.0.0.1:2/v1")
    assert moved.status_code == 400
    assert "again" in moved.json()["details"]["key"][0]
    assert put(owner, "openai", base_url="http://127.0.0.1:1/v1/").status_code == 200
    assert listed(owner, "openai")["last_four"] == "WXYZ"
    gone = owner.client.delete("/api/providers/openai/key").json()["data"]["provider"]
    assert gone["key_source"] == "none"
    assert owner.client.delete("/api/providers/openai/key").status_code == 404


def test_another_workspace_and_a_trainer_change_nothing(live: Live, owner: Member) -> None:
    put(owner, "anthropic", key=SECRET)
    assert listed(live.new_workspace(), "anthropic")["key_source"] == "none"
    trainer = live.new_member(owner.workspace_id, Role.TRAINER)
    assert listed(trainer, "anthropic")["last_four"] == "WXYZ"
    assert put(trainer, "anthropic", key=SECRET).status_code == 403


def test_nothing_is_sent_before_somebody_accepts_the_terms_and_who_did_stays_on_record(
    live: Live, owner: Member
) -> None:
    async def ask(database: Database) -> None:
        async with database.transaction(workspace_id=owner.workspace_id) as session:
            await require(session, Provider.ANTHROPIC)

    with pytest.raises(TermsNotAccepted, match="commercial-terms"):
        live.run(ask)
    path = "/api/providers/anthropic/terms"
    assert owner.client.post(path, json={"version": "2020-01"}).json()["code"] == "terms_changed"
    told = owner.client.post(path, json={"version": VERSION}).json()["data"]["provider"]["terms_accepted"]
    assert owner.client.post(path, json={"version": VERSION}).json()["data"]["provider"]["terms_accepted"] == told
    assert "@" in told["accepted_email"]
    live.run(ask)
    entries = owner.client.get("/api/audit", params={"action": "provider.terms_accepted"}).json()["data"]["items"]
    assert len([entry for entry in entries if entry["action"] == "provider.terms_accepted"]) == 1


def test_models_and_prices_are_told_with_their_day_and_unknown_is_null(owner: Member) -> None:
    data = owner.client.get("/api/providers/models").json()["data"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", data["as_of"])
    by_id = {model["id"]: model for model in data["models"]}
    assert by_id["claude-sonnet-5-5"]["input_usd"] == "2.00"
    assert by_id["claude-mythos-5-2"]["input_usd"] is None


def test_a_check_says_whether_it_works(owner: Member) -> None:
    with running() as provider:
        put(owner, "openai", key=SECRET, base_url=f"{provider.url}/v1")
        good = owner.client.post("/api/providers/openai/check").json()["data"]["check"]
        assert good == {"works": True, "models": ["local-model"], "problem": None}
        put(owner, "openai", key="sk-invalid-key", base_url=f"{provider.url}/v1")
        bad = owner.client.post("/api/providers/openai/check").json()["data"]["check"]
    assert not bad["works"]
    assert "does not accept the key" in bad["problem"]
    assert "sk-invalid-key" not in bad["problem"]


def test_the_page_takes_a_key_and_the_terms_and_never_shows_the_key(live: Live, owner: Member) -> None:
    url = "/settings/providers"
    with PageClient(live, owner) as page:
        assert "ANTHROPIC_API_KEY" in page.get(url)
        wrong = page.submit(url, f"{url}/anthropic/key", key="two words", base_url="")
        assert wrong.status_code == 400
        assert "two words" not in wrong.text
        assert page.submit(url, f"{url}/anthropic/key", key=SECRET, base_url="").status_code == 303
        assert "…WXYZ" in page.get(url)
        assert SECRET not in page.get(url)
        refused = page.submit(url, f"{url}/anthropic/terms", version=VERSION)
        assert refused.status_code == 400
        assert "Tick the box" in refused.text
        assert page.submit(url, f"{url}/anthropic/terms", version=VERSION, agree="on").status_code == 303
        assert "Accepted by" in words(page.get(url))
        assert page.submit(url, f"{url}/anthropic/key/remove").status_code == 303


def test_the_command_line_reads_the_key_from_standard_input(pg_urls: Any, tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "BRIGHTRUN_DATA": str(tmp_path),
        "BRIGHTRUN_DATABASE_ROLE_PREFIX": ROLE_PREFIX,
        "BRIGHTRUN_SECRET_KEY": TEST_SECRET.decode(),
        "DATABASE_URL": pg_urls.owner.render_as_string(hide_password=False),
    }

    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "brightrun", "providers", *arguments, "--json"]
        return subprocess.run(command, input=given, text=True, capture_output=True, env=environment, check=False)

    done = run("set-key", "anthropic", given=SECRET + "\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["last_four"] == "WXYZ"
    accepted = run("accept-terms", "anthropic", "--yes")
    assert "commercial-terms" in accepted.stderr
    [row] = [one for one in json.loads(run("list").stdout)["items"] if one["provider"] == "anthropic"]
    assert (row["key_source"], row["ready"]) == ("workspace", True)
    assert SECRET not in done.stdout + done.stderr + accepted.stdout
    assert run("remove-key", "anthropic").returncode == 0
    assert run("set-key", "nobody", given=SECRET).returncode == 1


def test_rows_hold_no_key_in_the_clear() -> None:
    assert {column.name for column in ProviderKey.__table__.columns} >= {"secret", "last_four"}
    assert "key" not in {column.name for column in ProviderKey.__table__.columns}
