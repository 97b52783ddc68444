"""A provider server for this room's tests, and a BrightRun of their own to run plans on."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from brightrun.cli.batch_run import Job
from brightrun.cli.runtime import Installation
from brightrun.db.roles import DatabaseUrls, libpq
from brightrun.generation.plan import read_plan
from brightrun.platform import keep_secret
from installation import TEST_SECRET, make_settings
from provider_server import Provider, running


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with running() as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    _provider.reset()
    return _provider


@dataclass
class Desk:
    """Runs plans as `brightrun batches run` does, on a database of its own."""

    urls: DatabaseUrls
    data: Path
    base_url: str
    key: str = "sk-test-0123456789"
    said: list[str] = field(default_factory=list)

    def run(self, plan: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The command's last line."""
        settings = make_settings(
            data=self.data, anthropic_base_url=self.base_url, anthropic_api_key=SecretStr(self.key)
        )
        chosen = {
            "concurrency": 8, "max_cost": None, "via": "sync", "max_attempts": 3, "on_error": "continue",
            "retry": False, "classes": None,
        } | options  # fmt: skip
        job = Job(settings, Installation(self.urls, None), read_plan(plan), chosen, self.said.append)
        return asyncio.run(job.run())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """As the owner of the tables, past row-level security."""
        with psycopg.connect(libpq(self.urls.owner)) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def spent(self) -> Decimal:
        return Decimal(self.rows("select coalesce(sum(cost), 0) from llm_requests where status = 'answered'")[0][0])


@pytest.fixture
def desk(fresh_pg_urls: DatabaseUrls, tmp_path: Path, provider: Provider) -> Desk:
    settings = make_settings(data=tmp_path)
    keep_secret(settings, TEST_SECRET)
    return Desk(fresh_pg_urls, tmp_path, provider.url)
