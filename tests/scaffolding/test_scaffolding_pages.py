"""The pages of scaffolding, as a browser without scripts meets them."""

import html
import re
from typing import Any

from live import Live, Member
from page_client import PageClient, words


def thing(owner: Member, kind: str, key: str) -> dict[str, Any]:
    params = {"pack": "it_help_desk", "search": key}
    items = owner.client.get(f"/api/scaffolding/{kind}", params=params).json()["data"]["items"]
    [found] = [one for one in items if one["key"] == key]
    return found


def test_packs_lists_and_things_are_shown(live: Live) -> None:
    owner = live.new_workspace()
    with PageClient(live, owner) as browser:
        assert "Elena Morales, CFP" in words(browser.get("/scaffolding"))
        for kind, word in (
            ("personas", "The Hurried Manager"), ("emotional-arcs", "panic 0.7–0.9 → control"),
            ("training-topics", "Password reset"), ("templates", "panic_to_control"),
        ):  # fmt: skip
            assert word in words(browser.get(f"/scaffolding/{kind}?pack=it_help_desk"))
            browser.get(f"/scaffolding/{kind}/new?pack=it_help_desk")
        assert browser.client.get("/scaffolding/training-topics?search=zzzz").status_code == 200


def form_of(page: str) -> dict[str, Any]:
    """What a browser would send of the edit form, unchanged."""
    fields: dict[str, Any] = {}
    form = page[page.index('<form method="post" action="/scaffolding/') :]
    form = form[: form.index("</form>")]
    for tag in re.findall(r"<input[^>]*>", form):
        attributes = {name: html.unescape(value) for name, value in re.findall(r'([a-z_-]+)="([^"]*)"', tag)}
        if attributes.get("type") == "checkbox" and " checked" not in tag:
            continue
        fields.setdefault(attributes["name"], []).append(attributes.get("value", "on"))
    for name, value in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>([^<]*)</textarea>', form):
        fields[name] = html.unescape(value)
    for name, options in re.findall(r'(?s)<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', form):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        fields[name] = chosen[1] if chosen else ""
    return fields


def test_a_form_sent_as_it_came_changes_nothing_for_every_kind(live: Live) -> None:
    """What a form does not show is not lost by saving it."""
    owner = live.new_workspace()
    with PageClient(live, owner) as browser:
        packs = [pack["id"] for pack in owner.client.get("/api/packs").json()["data"]["packs"]]
        paths = [f"/scaffolding/packs/{pack}" for pack in packs]
        for kind in ("personas", "emotional-arcs", "training-topics", "templates"):
            items = owner.client.get(f"/api/scaffolding/{kind}", params={"limit": 100}).json()["data"]["items"]
            paths += [f"/scaffolding/{kind}/{item['id']}" for item in items[:: max(1, len(items) // 6)]]
        for path in paths:
            fields = form_of(browser.get(f"{path}/edit"))
            answer = browser.client.post(f"{path}/edit", data=fields)
            assert answer.status_code == 303, (path, words(answer.text)[:2000])
            assert "Version 1" in words(browser.get(path)), path


def test_an_edit_makes_a_version_and_a_bad_one_keeps_what_was_typed(live: Live) -> None:
    owner = live.new_workspace()
    path = f"/scaffolding/templates/{thing(owner, 'templates', 'steady_hands')['id']}"
    with PageClient(live, owner) as browser:
        fields = form_of(browser.get(f"{path}/edit"))
        answer = browser.client.post(f"{path}/edit", data=fields | {"text": "Say {{ nonsense }}", "note": "a try"})
        assert answer.status_code == 400
        assert "othing fills {{ nonsense }}" in words(answer.text)
        assert "Say {{ nonsense }}" in answer.text
        fields.pop("active")
        answer = browser.client.post(f"{path}/edit", data=fields | {"text": "Say {{ nonsense }}", "note": "a try"})
        assert answer.status_code == 303
        page = words(browser.get(path))
        assert "Version 2" in page
        assert "a try" in page
        assert "Nothing can be written with this template as it is" in page
        assert "Deadline" in words(browser.get(f"{path}?version=1"))
        stale = browser.client.post(f"{path}/edit", data=fields | {"name": "Other"})
        assert stale.status_code == 409
        assert "Somebody has changed this template meanwhile" in words(stale.text)


def test_the_editor_shows_the_filled_prompt_and_names_what_is_missing(live: Live) -> None:
    owner = live.new_workspace()
    path = f"/scaffolding/templates/{thing(owner, 'templates', 'steady_hands')['id']}"
    with PageClient(live, owner) as browser:
        fields = form_of(browser.get(f"{path}/edit"))
        shown = browser.client.post("/scaffolding/templates/preview", data=fields)
        assert "Margaret Doyle" in words(shown.text) or "Ruth Lindqvist" in words(shown.text)
        shown = browser.client.post("/scaffolding/templates/preview", data=fields | {"text": "{{ topic_nmae }}"})
        assert "Nothing fills {{ topic_nmae }}" in words(shown.text)
        shown = browser.client.post("/scaffolding/templates/preview", data=fields | {"text": "{{ a.b }}"})
        assert "not part of the language of templates" in words(shown.text)


def test_a_combination_is_explained(live: Live) -> None:
    owner = live.new_workspace()
    with PageClient(live, owner) as browser:
        query = "persona=pragmatic_optimist&arc=shame_to_acceptance&topic=long_term_care"
        page = words(browser.get(f"/scaffolding/match?{query}"))
        assert "0.30 Not compatible" in page
        assert "−0.20" in page
        assert "is written for the arc" in page
        assert "David Chen" in page


def test_switching_off_and_duplicating_from_the_page(live: Live) -> None:
    owner = live.new_workspace()
    path = f"/scaffolding/personas/{thing(owner, 'personas', 'hurried_manager')['id']}"
    with PageClient(live, owner) as browser:
        assert browser.submit(path, f"{path}/deactivate").status_code == 303
        assert " Off " in words(browser.get(path))
        made = browser.submit(path, f"{path}/duplicate", copy_key="another", copy_name="Another")
        assert "Another" in words(browser.get(made.headers["location"]))


def test_a_bad_pack_is_told_on_the_page(live: Live) -> None:
    owner = live.new_workspace()
    with PageClient(live, owner) as browser:
        token = browser.token("/scaffolding")
        answer = browser.client.post(
            "/scaffolding/import", data={"csrf_token": token}, files={"file": ("x.zip", b"no zip", "application/zip")}
        )
        assert answer.status_code == 400
        assert "The pack was not taken in" in words(answer.text)
