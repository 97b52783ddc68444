"""From what a workspace has set up to a client that sends: its key, its address, its pace."""

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.llm.calls import ChatClient, Provider
from brightrun.llm.keys import Access, access
from brightrun.llm.pacing import PacedClient
from brightrun.settings import Settings


def make_client(found: Access, *, most: int, timeout_s: float = 600.0) -> ChatClient:
    """A client that sends once. most: requests at once."""
    if found.provider is Provider.ANTHROPIC:
        from brightrun.llm.claude import Claude  # The library takes a second to load.

        return Claude(found.key or "", base_url=found.base_url, connections_most=most + 8, timeout_s=timeout_s)
    from brightrun.llm.openai_compatible import OpenAICompatible

    return OpenAICompatible(found.base_url, found.key, connections_most=most + 8, timeout_s=timeout_s)


async def client_for(
    session: AsyncSession, settings: Settings, provider: Provider, *, with_key: bytes, most: int | None = None
) -> PacedClient:
    """For the transaction's workspace. with_key: `derive_key(platform.secret, keys.PURPOSE)`. Close it after use.

    Raises NoKeyError that says where to put a key. Whether the terms are accepted is asked with `terms.require`.
    """
    most = most or settings.llm_concurrency
    found = await access(session, settings, provider, with_key=with_key)
    return PacedClient(make_client(found, most=most, timeout_s=settings.llm_timeout_s), most)
