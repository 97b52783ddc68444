"""Keys of providers: a workspace's own, encrypted at rest, else the installation's from its environment."""

import os
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.clock import utcnow
from brightrun.errors import InvalidInputError
from brightrun.ids import uuid7
from brightrun.llm.calls import NoKeyError, Provider
from brightrun.llm.tables import ProviderKey
from brightrun.settings import Settings

PURPOSE = "provider keys"
"""What the key that encrypts is derived for: `derive_key(secret, PURPOSE)`, 32 bytes."""
_NONCE = 12
_SHORTEST, _LONGEST = 8, 512
ANTHROPIC_ADDRESS = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True)
class Access:
    """How a provider is reached. key: in the clear, for the client alone; None for a server that wants none.
    source: whose key it is."""

    provider: Provider
    base_url: str
    key: str | None = field(repr=False)
    last_four: str | None
    source: Literal["workspace", "environment", "none"]


def _aad(workspace_id: UUID, provider: Provider) -> bytes:
    """A ciphertext moved to another workspace or provider does not open."""
    return f"{workspace_id}:{provider.value}".encode()


def seal(key: str, *, with_key: bytes, workspace_id: UUID, provider: Provider) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(with_key).encrypt(nonce, key.encode(), _aad(workspace_id, provider))


def unseal(secret: bytes, *, with_key: bytes, workspace_id: UUID, provider: Provider) -> str:
    """Raises NoKeyError when the installation's secret is another than the one it was sealed with."""
    try:
        clear = AESGCM(with_key).decrypt(secret[:_NONCE], secret[_NONCE:], _aad(workspace_id, provider))
    except InvalidTag:
        raise NoKeyError(
            f"The stored key for {NAMES[provider]} cannot be read: this installation's secret key has changed since. "
            "Enter it again under Settings › Providers."
        ) from None
    return clear.decode()


NAMES = {Provider.ANTHROPIC: "Claude", Provider.OPENAI: "the OpenAI-compatible server"}
_VARIABLES = {Provider.ANTHROPIC: "ANTHROPIC_API_KEY", Provider.OPENAI: "OPENAI_API_KEY"}


def checked_key(text: str) -> str:
    """Raises InvalidInputError without repeating the key."""
    key = text.strip()
    if not _SHORTEST <= len(key) <= _LONGEST or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            "That is no key", code="validation_error",
            details={"key": [f"a key has {_SHORTEST} to {_LONGEST} characters, no blanks: copy it whole"]},
        )  # fmt: skip
    return key


def checked_address(text: str) -> str:
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username and not parts.query
        _ = parts.port
    except ValueError:
        well = False
    if not well or len(url) > 500:
        raise InvalidInputError(
            "That is no address", code="validation_error",
            details={"base_url": ["an address like http://localhost:11434/v1, without a user name or a question mark"]},
        )  # fmt: skip
    return url


async def stored(session: AsyncSession, provider: Provider) -> ProviderKey | None:
    """Of the transaction's workspace."""
    rows = await session.scalars(select(ProviderKey).where(ProviderKey.provider == provider.value))
    return rows.first()


async def store(
    session: AsyncSession,
    provider: Provider,
    *,
    key: str | None,
    base_url: str | None,
    with_key: bytes,
    user_id: UUID | None,
) -> ProviderKey:
    """Replaces what was there; key None keeps the stored one where there is one (a new address alone)."""
    workspace_id = session.info["workspace_id"]
    values: dict[str, object] = {"base_url": base_url, "created_by": user_id, "updated_at": utcnow()}
    if key is not None:
        secret = seal(key, with_key=with_key, workspace_id=workspace_id, provider=provider)
        values |= {"secret": secret, "last_four": key[-4:]}
    row = {"id": uuid7(), "workspace_id": workspace_id, "provider": provider.value, **values}
    await session.execute(
        insert(ProviderKey).values(row).on_conflict_do_update(index_elements=["workspace_id", "provider"], set_=values)
    )
    found = await session.scalars(
        select(ProviderKey).where(ProviderKey.provider == provider.value).execution_options(populate_existing=True)
    )
    return found.one()


async def forget(session: AsyncSession, provider: Provider) -> bool:
    row = await session.execute(
        delete(ProviderKey).where(ProviderKey.provider == provider.value).returning(ProviderKey.id)
    )
    return row.first() is not None


def from_environment(settings: Settings, provider: Provider) -> Access:
    """What the installation's settings give."""
    secret = settings.anthropic_api_key if provider is Provider.ANTHROPIC else settings.openai_api_key
    key = secret.get_secret_value().strip() if secret is not None else None
    address = (
        (settings.anthropic_base_url or ANTHROPIC_ADDRESS)
        if provider is Provider.ANTHROPIC
        else settings.openai_base_url
    )
    return Access(
        provider, (address or "").rstrip("/"), key or None, key[-4:] if key else None,
        "environment" if key or (provider is Provider.OPENAI and address) else "none",
    )  # fmt: skip


async def access(session: AsyncSession, settings: Settings, provider: Provider, *, with_key: bytes) -> Access:
    """The workspace's own, else the installation's. with_key: `derive_key(platform.secret, PURPOSE)`.

    A workspace's address goes with its own key alone: the installation's key is never sent to an address that a
    workspace chose, nor a workspace's to where somebody else points.

    Raises NoKeyError that says where to put a key.
    """
    own = await stored(session, provider)
    shared = from_environment(settings, provider)
    if own is not None:
        workspace_id = session.info["workspace_id"]
        clear = (
            unseal(own.secret, with_key=with_key, workspace_id=workspace_id, provider=provider)
            if own.secret is not None
            else None
        )
        address = own.base_url or shared.base_url
        if address and (clear is not None or provider is Provider.OPENAI):
            return Access(provider, address, clear, own.last_four, "workspace")
    if shared.source == "none":
        raise NoKeyError(no_key_words(provider))
    return shared


def no_key_words(provider: Provider) -> str:
    if provider is Provider.ANTHROPIC:
        return (
            "There is no key for Claude. Make one at https://console.anthropic.com/settings/keys and put it under "
            "Settings › Providers, or into the environment as ANTHROPIC_API_KEY; or use another server by its address "
            "(Settings › Providers, BRIGHTRUN_OPENAI_BASE_URL)."
        )
    return (
        "There is no OpenAI-compatible server. Put its address (for Ollama: http://localhost:11434/v1) under "
        "Settings › Providers, or into BRIGHTRUN_OPENAI_BASE_URL; its key, if it wants one, "
        f"into {_VARIABLES[provider]}."
    )
