"""JSON routes of providers: keys (only their last four characters ever come out), terms, models and prices."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints

from brightrun.accounts.context import Ctx, needs
from brightrun.accounts.roles import Permission
from brightrun.generation import providers
from brightrun.generation.providers import ProviderState
from brightrun.llm import terms
from brightrun.llm.calls import Provider
from brightrun.llm.prices import catalogue
from brightrun.web.http import Success, one

router = APIRouter(prefix="/api/providers", tags=["providers"])

ProviderName = Annotated[Provider, Path(description="`anthropic`, or `openai` for any OpenAI-compatible server")]


class LinkOut(BaseModel):
    label: str
    url: str


class NoticeOut(BaseModel):
    """What has to be accepted before anything is sent. text: paragraphs."""

    provider: Provider
    version: str
    title: str
    text: list[str]
    links: list[LinkOut]


class AcceptedOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: str
    accepted_email: str
    accepted_at: datetime


class ProviderOut(BaseModel):
    """key_source: whose key is used. last_four: of that key. ready: there is a key and the terms are accepted."""

    provider: Provider
    label: str
    key_source: str
    last_four: str | None
    base_url: str | None
    ready: bool
    problem: str | None
    terms: NoticeOut
    terms_accepted: AcceptedOut | None

    @classmethod
    def of(cls, found: ProviderState) -> "ProviderOut":
        return cls(
            provider=found.provider,
            label=found.label,
            key_source=found.source,
            last_four=found.last_four,
            base_url=found.base_url,
            ready=found.ready,
            problem=found.problem,
            terms=NoticeOut.model_validate(terms.told(terms.NOTICES[found.provider])),
            terms_accepted=AcceptedOut.model_validate(found.accepted) if found.accepted else None,
        )


class ProviderData(BaseModel):
    provider: ProviderOut


class ProvidersData(BaseModel):
    providers: list[ProviderOut]


class KeyIn(BaseModel):
    """key: null for a server that wants none, or to keep the stored one at the same address."""

    model_config = ConfigDict(extra="forbid")

    key: SecretStr | None = None
    base_url: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] | None = None


class TermsIn(BaseModel):
    """version: of the notice that was read."""

    model_config = ConfigDict(extra="forbid")

    version: str


class CheckOut(BaseModel):
    works: bool
    models: list[str]
    problem: str | None


class CheckData(BaseModel):
    check: CheckOut


class ModelOut(BaseModel):
    """Prices: USD for a million tokens, of the first band; null: unknown. bands: how many lengths of prompt are priced
    apart. batch_share: what a token costs in the provider's batches, as a share."""

    id: str
    name: str
    provider: Provider
    default: bool
    context: int | None
    max_output: int | None
    retires: date | None
    input_usd: str | None
    output_usd: str | None
    bands: int
    batch_share: str | None
    as_of: str | None


class ModelsData(BaseModel):
    """as_of: the day of the price file."""

    as_of: str
    models: list[ModelOut]


@router.get("", **needs(Permission.CONVERSATIONS_READ))
async def list_providers(ctx: Ctx) -> Success[ProvidersData]:
    """Every provider, whether it can be used, and what is missing."""
    found = await providers.states(ctx.session, ctx.platform)
    return one(ProvidersData(providers=[ProviderOut.of(state) for state in found]))


@router.get("/models", **needs(Permission.CONVERSATIONS_READ))
async def list_known_models(ctx: Ctx) -> Success[ModelsData]:
    """Models and prices of this installation's file."""
    models = [ModelOut.model_validate(row) for row in providers.known_models()]
    return one(ModelsData(as_of=catalogue().as_of, models=models))


@router.put("/{provider}/key", **needs(Permission.WORKSPACE_MANAGE))
async def set_provider_key(ctx: Ctx, provider: ProviderName, body: KeyIn) -> Success[ProviderData]:
    """Set the workspace's own key; it is encrypted at rest and never given out again."""
    key = body.key.get_secret_value() if body.key is not None else None
    found = await providers.set_key(ctx.session, ctx.platform, provider, key=key, base_url=body.base_url)
    return one(ProviderData(provider=ProviderOut.of(found)))


@router.delete("/{provider}/key", **needs(Permission.WORKSPACE_MANAGE))
async def remove_provider_key(ctx: Ctx, provider: ProviderName) -> Success[ProviderData]:
    """Delete the workspace's own key; the installation's, where there is one, is used from then on."""
    return one(ProviderData(provider=ProviderOut.of(await providers.remove_key(ctx.session, ctx.platform, provider))))


@router.post("/{provider}/terms", **needs(Permission.WORKSPACE_MANAGE))
async def accept_provider_terms(ctx: Ctx, provider: ProviderName, body: TermsIn) -> Success[ProviderData]:
    """Accept, for the workspace, that the provider's terms on training with its answers apply. Who did is kept."""
    providers.check_version(body.version)
    found = await providers.accept_terms(ctx.session, ctx.platform, provider, email=ctx.principal.email)
    return one(ProviderData(provider=ProviderOut.of(found)))


@router.post("/{provider}/check", **needs(Permission.WORKSPACE_MANAGE))
async def check_provider(ctx: Ctx, provider: ProviderName) -> Success[CheckData]:
    """Ask the provider for its models: says whether address and key work. Costs nothing."""
    checked = await providers.check(ctx.session, ctx.platform, provider)
    names = [facts.id for facts in checked.models]
    return one(CheckData(check=CheckOut(works=checked.works, models=names, problem=checked.problem)))
