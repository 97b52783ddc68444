"""A person plans on a grid, sees the price, starts, watches, and has what was cut off sent again."""

import os
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import hatch_build

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))
from browser_kit import chromium, visit

from brightrun.db.roles import DatabaseUrls
from brightrun.llm.terms import VERSION
from brightrun.scaffolding.pack_files import builtin_pack
from installation import TEST_SECRET, make_settings
from live import live_server
from provider_server import KEY, running

pytestmark = pytest.mark.browser


def test_plan_on_a_grid_see_the_quote_start_watch_and_retry_what_was_cut_off(
    fresh_pg_urls: DatabaseUrls, tmp_path: Path
) -> None:
    hatch_build.build()
    os.environ.pop("ANTHROPIC_API_KEY", None)
    with running(latency_s=0.2) as provider:
        settings = make_settings(
            data=tmp_path, min_free_disk_bytes=0, worker_heartbeat_s=1, anthropic_base_url=provider.url,
            anthropic_api_key=SecretStr(KEY),
        )  # fmt: skip
        with live_server(fresh_pg_urls, settings, TEST_SECRET) as live, chromium() as browser:
            owner = live.new_workspace()
            accepted = owner.client.post("/api/providers/anthropic/terms", json={"version": VERSION})
            assert accepted.status_code == 200, accepted.text
            with visit(browser, live.url, reduced_motion="reduce") as made:
                page = made.page
                page.goto(live.signin_link(owner.user_id))
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(lambda url: "signin" not in url)

                page.goto("/conversations")
                page.get_by_role("link", name="Plan a batch").first.click()
                page.get_by_label("Spread evenly").fill("11")
                page.get_by_role("button", name="Fill the grid").click()
                expect(page.locator("#quote")).to_contain_text("11 conversations")
                # One more by hand: the quote follows.
                page.get_by_label("Marcus Chen, Crisis → Referral").fill("1")
                expect(page.locator("#quote")).to_contain_text("12 conversations")
                expect(page.locator("#quote")).to_contain_text("by tomorrow for $")

                cells = page.locator("input[name^='cell.']").evaluate_all("all => all.map(e => [e.name, e.value])")
                pairs = [
                    {"persona": name.split(".")[1], "arc": name.split(".")[2], "count": int(value)}
                    for name, value in cells
                    if value
                ]
                assert sum(pair["count"] for pair in pairs) == 12
                body = {"pack": "financial_planning", "quotas": {"pairs": pairs}, "seed": 0}
                drawn = owner.client.post("/api/packs/plan", json=body).json()["data"]["plan"]["items"]
                cut = builtin_pack("financial_planning").topic(drawn[0]["topic"])
                provider.configure(faults=[{"kind": "truncated", "contains": cut.description, "times": 3}])

                page.get_by_role("button", name="Start the batch").click()
                page.wait_for_url("**/batches/*-*")
                now = page.locator("#batch-now")
                # It comes by itself: the page is not loaded again.
                expect(now).to_contain_text("11 of 12", timeout=30_000)
                expect(now).to_contain_text("Cut off: 1", timeout=30_000)
                expect(now).to_contain_text("Finished", timeout=30_000)
                page.get_by_role("link", name="Cut off: 1").click()
                page.get_by_role("link", name="Cut off").first.click()
                expect(page.get_by_role("region", name="The raw answer")).to_be_visible()
                expect(page.get_by_role("region", name="The prompt", exact=True)).to_contain_text(cut.name)
                page.get_by_role("button", name="Send again").click()
                page.get_by_role("link", name=re.compile("^№ .* attempt")).click()
                expect(page.locator("#batch-now")).to_contain_text("12 of 12", timeout=30_000)

                page.goto("/conversations")
                page.locator("#conversations a.row-link").first.click()
                expect(page.get_by_role("list", name="Conversation")).to_be_visible()
                page.goto("/batches/new?fill=1")
                expect(page.locator("#quote")).to_contain_text("conversation")
                assert provider.stats()["requests"] == 15  # 12, two resends of the one that was cut off, and the retry
