"""Providers of a workspace: keys, addresses and terms, with the audit log told; and whether it all works."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.audit.service import record
from brightrun.errors import ConflictError, InvalidInputError, NotFoundError
from brightrun.llm import keys, terms
from brightrun.llm.access import make_client
from brightrun.llm.calls import CallError, ModelFacts, NoKeyError, Provider
from brightrun.llm.prices import catalogue
from brightrun.llm.tables import ProviderKey, ProviderTerms
from brightrun.notifications.targets import find_target
from brightrun.platform import Platform, derive_key
from brightrun.settings import Settings

LABELS = {Provider.ANTHROPIC: "Claude (Anthropic)", Provider.OPENAI: "OpenAI-compatible server"}


@dataclass(frozen=True)
class ProviderState:
    """source: whose key is used, `workspace`, `environment` or `none`. problem: why it cannot be used as it is."""

    provider: Provider
    label: str
    source: str
    last_four: str | None
    base_url: str | None
    own: ProviderKey | None
    accepted: ProviderTerms | None
    problem: str | None

    @property
    def ready(self) -> bool:
        return self.problem is None and self.accepted is not None


def sealing_key(platform: Platform) -> bytes:
    """What provider keys are encrypted with."""
    return derive_key(platform.secret, keys.PURPOSE)


async def state(session: AsyncSession, platform: Platform, provider: Provider) -> ProviderState:
    own = await keys.stored(session, provider)
    accepted = await terms.accepted(session, provider)
    problem = None
    try:
        found = await keys.access(session, platform.settings, provider, with_key=sealing_key(platform))
    except NoKeyError as error:
        found, problem = keys.from_environment(platform.settings, provider), error.message
    source = found.source if problem is None else "workspace" if own is not None else "none"
    last_four = own.last_four if own is not None and source == "workspace" else found.last_four
    return ProviderState(
        provider, LABELS[provider], source, last_four, found.base_url or None, own, accepted, problem
    )  # fmt: skip


async def states(session: AsyncSession, platform: Platform) -> list[ProviderState]:
    return [await state(session, platform, provider) for provider in Provider]


async def set_key(
    session: AsyncSession,
    platform: Platform,
    provider: Provider,
    *,
    key: str | None,
    base_url: str | None = None,
) -> ProviderState:
    """The workspace's own key, and for an OpenAI-compatible server its address.

    key None: the server wants none, or the stored one stays; it does not follow to another address, where whoever
    chose the address could read it.

    Raises InvalidInputError.
    """
    before = await keys.stored(session, provider)
    if provider is Provider.ANTHROPIC:
        if base_url is not None:
            raise _bad("base_url", "Claude's address is the installation's: BRIGHTRUN_ANTHROPIC_BASE_URL")
        if not key:
            raise _bad("key", "is missing")
    clean = keys.checked_key(key) if key else None
    address = keys.checked_address(base_url) if base_url else None
    if address is not None:
        await _check_reachable(address, platform.settings)
    elif provider is Provider.OPENAI and platform.settings.openai_base_url is None:
        raise _bad("base_url", "is missing: where the server is reached, with its /v1")
    if clean is None and before is not None and before.secret is not None and before.base_url != address:
        raise _bad("key", "enter the key again: the stored one is not sent to another address")
    await keys.store(
        session, provider, key=clean, base_url=address, with_key=sealing_key(platform),
        user_id=session.info.get("user_id"),
    )  # fmt: skip
    last_four = clean[-4:] if clean else before.last_four if before is not None else None
    details = {"last_four": last_four, "base_url": address, "replaced": before is not None}
    await record(session, "provider.key_set", "provider", provider.value, details)
    return await state(session, platform, provider)


def _bad(field: str, message: str) -> InvalidInputError:
    return InvalidInputError("The request does not fit", code="validation_error", details={field: [message]})


async def _check_reachable(address: str, settings: Settings) -> None:
    """Where strangers may sign up, a workspace does not get to call the network behind the server."""
    if not settings.signup_enabled:
        return
    try:
        await find_target(address, settings)
    except OSError:
        raise _bad("base_url", "no such host") from None
    except InvalidInputError as error:
        raise _bad("base_url", error.message) from None


async def remove_key(session: AsyncSession, platform: Platform, provider: Provider) -> ProviderState:
    """Raises NotFoundError when the workspace has none of its own."""
    if not await keys.forget(session, provider):
        raise NotFoundError(f"This workspace has no key of its own for {LABELS[provider]}")
    await record(session, "provider.key_removed", "provider", provider.value)
    return await state(session, platform, provider)


def not_agreed() -> InvalidInputError:
    """The form was sent without its box ticked."""
    return _bad("agree", "tick the box when you have read the terms and your use is allowed")


def check_version(version: str) -> None:
    """Raises ConflictError when another notice was read than the present one."""
    if version != terms.VERSION:
        raise ConflictError(
            f"The notice has changed since it was read (now {terms.VERSION}): read it again", code="terms_changed"
        )


async def accept_terms(session: AsyncSession, platform: Platform, provider: Provider, *, email: str) -> ProviderState:
    """email: of whoever accepts, as it stays on record. Accepting twice changes nothing."""
    user_id = session.info.get("user_id")
    if await terms.accept(session, provider, user_id=user_id, email=email):
        details = {"version": terms.VERSION, "links": [url for _, url in terms.NOTICES[provider].links]}
        await record(session, "provider.terms_accepted", "provider", provider.value, details)
    return await state(session, platform, provider)


@dataclass(frozen=True)
class Checked:
    """works: the provider answered and took the key. models: those it told of; problem: what it said instead."""

    works: bool
    models: list[ModelFacts]
    problem: str | None


async def check(session: AsyncSession, platform: Platform, provider: Provider) -> Checked:
    """Ask for the list of models: free, and it needs the key. Sends nothing of the workspace's."""
    try:
        found = await keys.access(session, platform.settings, provider, with_key=sealing_key(platform))
    except NoKeyError as error:
        return Checked(False, [], error.message)
    client = make_client(found, most=1, timeout_s=20.0)
    try:
        return Checked(True, await client.models(), None)
    except CallError as error:
        return Checked(False, [], error.message)
    finally:
        await client.aclose()


def _usd(rate: Decimal) -> str:
    """With cents at least, and all there is beyond them."""
    return f"{rate:.2f}" if rate == rate.quantize(Decimal("0.01")) else f"{rate.normalize():f}"


def known_models() -> list[dict[str, object]]:
    """The catalogue as pages and the API show it; prices in USD for a million tokens, null when unknown."""
    found = catalogue()
    rows: list[dict[str, object]] = []
    for model in found.models:
        band = model.price.bands[0] if model.price is not None else None
        rows.append(
            {
                "id": model.id,
                "name": model.name,
                "provider": model.provider.value,
                "default": model.id == found.default,
                "context": model.context,
                "max_output": model.max_output,
                "retires": model.retires.isoformat() if model.retires else None,
                "input_usd": _usd(band.input) if band else None,
                "output_usd": _usd(band.output) if band else None,
                "bands": len(model.price.bands) if model.price else 0,
                "batch_share": str(model.price.batch) if model.price and model.price.batch is not None else None,
                "as_of": model.price.as_of if model.price else None,
            }
        )
    return rows
