"""`brightrun batches run`: a plan carried out by this very process, on the installation's own database."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts.repository import get_user
from brightrun.accounts.service import bootstrap_first_owner
from brightrun.cli.runtime import Installation, open_platform
from brightrun.costs import budgets
from brightrun.errors import NotFoundError
from brightrun.generation import providers, service, spending
from brightrun.generation.carrying import carry_out
from brightrun.generation.clients import client_for
from brightrun.generation.engine.run import Progress, RunEnd
from brightrun.generation.plan import Plan, PlanInvalidError
from brightrun.generation.preparing import Prepared, check_cap, prepare
from brightrun.generation.tables import BatchJob, ErrorHandling, StoppedReason
from brightrun.llm import terms
from brightrun.llm.calls import Provider, Via
from brightrun.llm.prices import catalogue
from brightrun.platform import Platform
from brightrun.scaffolding.pack import Pack
from brightrun.scaffolding.service import load_pack
from brightrun.settings import Settings


class Job:
    """say: lines for people, on stderr."""

    def __init__(
        self,
        settings: Settings,
        installed: Installation,
        plan: Plan,
        options: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.installed = installed
        self.plan = plan
        self.options = options
        self.say = say
        self._said = 0.0

    async def run(self) -> dict[str, Any]:
        url = self.installed.urls.app.render_as_string(hide_password=False)
        async with open_platform(self.settings, url, pool_size=2, name="batches") as platform:
            async with platform.db.transaction() as session:
                user_id, workspace_id = await bootstrap_first_owner(session)
            started = time.monotonic()
            return await self._run(platform, user_id, workspace_id, started)

    async def _run(self, platform: Platform, user_id: UUID, workspace_id: UUID, started: float) -> dict[str, Any]:
        options = self.options
        pack = await self._pack(platform, user_id, workspace_id)
        prepared = prepare(
            self.plan, pack, catalogue(), via=Via(options["via"]),
            openai_address=self.settings.openai_base_url is not None,
        )  # fmt: skip
        check_cap(prepared, options["max_cost"])
        async with platform.db.transaction(user_id=user_id, workspace_id=workspace_id) as session:
            batch, _new = await service.make_or_find(
                session, prepared,
                service.Options(
                    concurrency=options["concurrency"], max_cost=options["max_cost"],
                    max_attempts=options["max_attempts"], error_handling=ErrorHandling(options["on_error"]),
                    origin="cli",
                ),
                user_id=user_id,
            )  # fmt: skip
            if options["retry"]:
                await service.retry_failed(session, batch, options["classes"])
            before = await service.summarise(session, batch)
            if before.pending:
                await self._warn_of_budget(session, batch)
        present = before.written + sum(before.failed_by_class.values())
        end = RunEnd(StoppedReason.FINISHED, Progress())
        if before.pending:
            self.say(f"{batch.name}: {before.pending:,} to write. {batch.quote['sentence']}")
            end = await self._carry_out(platform, batch, prepared, user_id)
        async with platform.db.transaction(user_id=user_id, workspace_id=workspace_id) as session:
            row = await session.get(BatchJob, batch.id)
            assert row is not None
            after = await service.summarise(session, row)
        return self._result(after, end, present, time.monotonic() - started)

    async def _pack(self, platform: Platform, user_id: UUID, workspace_id: UUID) -> Pack:
        async with platform.db.transaction(user_id=user_id, workspace_id=workspace_id) as session:
            try:
                return await load_pack(session, workspace_id, self.plan.pack)
            except NotFoundError as error:
                raise PlanInvalidError(f"pack: {error.message}", details={"pack": [error.message]}) from error

    async def _carry_out(self, platform: Platform, batch: BatchJob, prepared: Prepared, user_id: UUID) -> RunEnd:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with platform.db.transaction(user_id=user_id, workspace_id=batch.workspace_id) as session:
            await self._terms(session, platform, prepared.provider, user_id)
            client = await client_for(session, platform, prepared.provider, concurrency=batch.concurrency)
        try:
            return await carry_out(
                platform, batch, prepared.pack, client, stop=stop, on_progress=self._tell,
            )  # fmt: skip
        finally:
            await client.aclose()
            with contextlib.suppress(ValueError):
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(number)

    async def _terms(self, session: AsyncSession, platform: Platform, provider: Provider, user_id: UUID) -> None:
        """Before the first request ever: say whose terms apply. Whoever runs the command accepts them by going on."""
        if await terms.accepted(session, provider) is not None:
            return
        notice = terms.NOTICES[provider]
        links = "\n".join(f"  {label}: {url}" for label, url in notice.links)
        self.say(f"{notice.title}\n" + "\n".join(f"  {line}" for line in notice.text) + f"\n{links}")
        self.say("  Running this command is recorded as acceptance. Ctrl-C now, if your use is not allowed.")
        user = await get_user(session, user_id)
        assert user is not None
        await providers.accept_terms(session, platform, provider, email=user.email)

    async def _warn_of_budget(self, session: AsyncSession, batch: BatchJob) -> None:
        """The command has its own cap; that the month's budget is smaller than the batch is told all the same."""
        remaining = (await budgets.current(session)).remaining
        if remaining is not None and spending.upper(batch) > remaining:
            self.say(
                f"  It may cost up to ${spending.upper(batch):.2f}; ${remaining:.2f} of this month's budget is left. "
                "--max-cost keeps it below an amount."
            )

    def _tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said < 2.0:
            return
        self._said = now
        rate = ""
        if progress.first_sent is not None and progress.written and now > progress.first_sent:
            rate = f", {progress.written / (now - progress.first_sent):.1f}/s"
        self.say(
            f"  {progress.written:,} written, {progress.failed:,} failed, {progress.in_flight} on their way{rate}, "
            f"${progress.spent:.4f}"
        )

    def _result(self, after: service.Summary, end: RunEnd, present: int, seconds: float) -> dict[str, Any]:
        result: dict[str, Any] = {
            "planned": after.planned,
            "written": after.written,
            "pending": after.pending,
            "failed_by_class": after.failed_by_class,
            "requests_sent": end.progress.sent,
            "requests_reused": present + end.progress.recovered,
            "requests_unknown": end.progress.unknown,
            "cost_usd": _number(after.cost),
            "cost_unknown_max_usd": _number(after.cost_unknown_max),
            "cost_quoted_usd": _number(Decimal(after.quoted) if after.quoted is not None else None),
            "seconds": round(seconds, 3),
            "stopped_reason": "cancelled" if end.reason is StoppedReason.PAUSED else end.reason.value,
        }
        if end.error is not None:
            result["error"] = end.error.message
        return result


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
