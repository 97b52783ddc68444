"""The client a run sends with: paced by what the provider tells, every request that leaves counted."""

from collections.abc import Callable

from brightrun.llm.calls import Answer, ChatClient, ModelFacts, Provider, Request
from brightrun.llm.pacing import PacedClient


class _Counting:
    """Passes on, and says so whenever a request leaves: those that are turned away leave, too."""

    def __init__(self, client: ChatClient, on_sent: Callable[[], None]) -> None:
        self.client = client
        self.provider: Provider = client.provider
        self._on_sent = on_sent

    async def send(self, request: Request) -> Answer:
        self._on_sent()
        return await self.client.send(request)

    async def count_tokens(self, request: Request) -> int | None:
        return await self.client.count_tokens(request)

    async def model(self, model: str) -> ModelFacts | None:
        return await self.client.model(model)

    async def models(self) -> list[ModelFacts]:
        return await self.client.models()

    async def aclose(self) -> None:
        await self.client.aclose()


def paced(client: ChatClient, most: int, on_sent: Callable[[], None]) -> PacedClient:
    return PacedClient(_Counting(client, on_sent), most)
