"""A browser without JavaScript, for tests of pages: signed in by link, it reads pages and sends their forms."""

import html
import re
from types import TracebackType
from typing import Self

import httpx2

from live import Live, Member


class PageClient:
    """Someone signed in. Redirects are not followed, so that a test sees where a form leads."""

    def __init__(self, live: Live, member: Member) -> None:
        self.client = httpx2.Client(base_url=live.url, timeout=30)
        link = live.signin_link(member.user_id)
        assert self.submit(link, link).status_code == 303

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def get(self, path: str, **headers: str) -> str:
        """The text of a page that is there."""
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def part(self, path: str) -> str:
        """What htmx gets that asks for a part of the page."""
        return self.get(path, **{"HX-Request": "true", "HX-Request-Type": "partial"})

    def submit(self, page: str, action: str, **fields: object) -> httpx2.Response:
        """Take the form token from `page`, post to `action`."""
        return self.client.post(action, data={"csrf_token": self.token(page), **fields})

    def token(self, page: str) -> str:
        found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', self.get(page))
        assert found
        return found[1]


def words(page: str) -> str:
    """The text of a page: no tags, entities read, single spaces."""
    page = re.sub(r"(?s)<(script|style|template|svg)\b.*?</\1>", " ", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
