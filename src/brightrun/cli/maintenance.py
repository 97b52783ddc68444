"""Commands that touch the installation's database directly: migrate it, hand out links."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from brightrun.cli.runtime import DataOption, installation, open_platform, settings_with, start_logging
from brightrun.errors import NotFoundError
from brightrun.settings import Settings


def migrate(data: DataOption = None) -> None:
    """Create or upgrade the database (roles, tables, policies), then leave. `up` does this by itself."""
    settings = settings_with(data)
    start_logging(settings, "migrate")
    with installation(settings):
        from brightrun.db.migrate import head_revision

        print(f"the database is at revision {head_revision()}")


UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="How the server is reached. Default: as the last `up` was."),
]
EmailOption = Annotated[str | None, typer.Option("--email", help="Whose link. Default: the first owner.")]


def signin_link(data: DataOption = None, url: UrlOption = None, email: EmailOption = None) -> None:
    """Print a one-time sign-in link; it voids the ones made before for the same person."""
    print(_link(data, url, email, purpose="sign_in", path="signin-link"))


def password_link(
    email: Annotated[str, typer.Argument(help="Whose password.")], data: DataOption = None, url: UrlOption = None
) -> None:
    """Print a link that sets a new password: works once, for one hour."""
    print(_link(data, url, email, purpose="password_reset", path="reset-password"))


def _link(data: Path | None, url: str | None, email: str | None, *, purpose: str, path: str) -> str:
    settings = settings_with(data)
    start_logging(settings.model_copy(update={"log_level": "warning"}), "link")
    if url is None and settings.public_url is None:
        settings = _with_running_address(settings)
    with installation(settings) as installed:
        token = asyncio.run(
            _make_link(settings, installed.urls.app.render_as_string(hide_password=False), email, purpose)
        )
    base = (url or settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    return f"{base}/{path}/{token}"


def _with_running_address(settings: Settings) -> Settings:
    from brightrun.cli.up import running_url

    found = running_url(settings.data)
    return settings.model_copy(update={"public_url": found}) if found else settings


async def _make_link(settings: Settings, app_url: str, email: str | None, purpose: str) -> str:
    from brightrun.accounts import repository, service, signin
    from brightrun.accounts.tables import LinkPurpose

    async with (
        open_platform(settings, app_url, pool_size=1, name="link") as platform,
        platform.db.transaction() as session,
    ):
        if email is None:
            user_id, _workspace_id = await service.bootstrap_first_owner(session)
        else:
            found = await repository.lookup_user_by_email(session, email)
            if found is None:
                raise NotFoundError(f"there is no account with the e-mail {email}")
            user_id = found
        return await signin.make_link(session, user_id, LinkPurpose(purpose))
