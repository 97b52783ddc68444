"""The client for a workspace's provider: its key, its address."""

from brightrun.llm.calls import ChatClient, NoKeyError, Provider
from brightrun.llm.claude import Claude
from brightrun.llm.openai_compatible import OpenAICompatible
from brightrun.settings import Settings


def client_for(settings: Settings, provider: Provider, *, concurrency: int) -> ChatClient:
    """Raises NoKeyError that says where to put a key."""
    if provider is Provider.ANTHROPIC:
        if settings.anthropic_api_key is None:
            raise NoKeyError(
                "There is no key for Claude: put one into ANTHROPIC_API_KEY, or choose a model of an OpenAI-compatible "
                "server and set BRIGHTRUN_OPENAI_BASE_URL"
            )
        return Claude(
            settings.anthropic_api_key.get_secret_value(),
            base_url=settings.anthropic_base_url,
            connections_most=concurrency + 8,
            timeout_s=settings.llm_timeout_s,
        )
    if settings.openai_base_url is None:
        raise NoKeyError("There is no address of an OpenAI-compatible server: set BRIGHTRUN_OPENAI_BASE_URL")
    key = settings.openai_api_key
    return OpenAICompatible(
        settings.openai_base_url,
        key.get_secret_value() if key is not None else None,
        connections_most=concurrency + 8,
        timeout_s=settings.llm_timeout_s,
    )
