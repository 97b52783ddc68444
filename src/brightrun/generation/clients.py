"""The client for a workspace's provider, and whether its terms are accepted."""

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.generation.providers import sealing_key
from brightrun.llm.access import make_client
from brightrun.llm.calls import ChatClient, Provider
from brightrun.llm.keys import access
from brightrun.platform import Platform


async def client_for(session: AsyncSession, platform: Platform, provider: Provider, *, concurrency: int) -> ChatClient:
    """With the workspace's own key and address, else the installation's. Raises NoKeyError: where to put one."""
    found = await access(session, platform.settings, provider, with_key=sealing_key(platform))
    return make_client(found, most=concurrency, timeout_s=platform.settings.llm_timeout_s)
