"""What a provider's terms mean for training on its answers, who accepted that, and refusals in plain words."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.errors import ConflictError
from brightrun.ids import uuid7
from brightrun.llm.calls import Provider
from brightrun.llm.tables import ProviderTerms

VERSION = "2026-11"
"""Of the notice below. A new one has to be accepted anew."""


@dataclass(frozen=True, slots=True)
class Notice:
    """text: paragraphs. links: (words, address)."""

    provider: Provider
    version: str
    title: str
    text: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


_CLAUDE = (
    "What Claude writes here will train a model. Anthropic's commercial terms restrict the use of its services and "
    "their outputs for building models that compete with Anthropic's. Whether your use is allowed depends on your "
    "agreement with Anthropic: read the terms, and ask Anthropic when in doubt."
)
_CLAUDE_MORE = (
    "Your prompts and source texts are sent to Anthropic. Claude may refuse what looks like work on a competing "
    "model; BrightRun shows such a refusal and never words a request otherwise to get round it."
)
_OTHER = (
    "What this server's model writes will train another model. Whether that is allowed is said by the terms of whoever "
    "runs the server and by the licence of the model it serves; some forbid it or ask for a notice."
)

NOTICES = {
    Provider.ANTHROPIC: Notice(
        Provider.ANTHROPIC,
        VERSION,
        "Anthropic's terms apply to training on Claude's answers",
        (_CLAUDE, _CLAUDE_MORE),
        (
            ("Commercial terms of service", "https://www.anthropic.com/legal/commercial-terms"),
            ("Usage policy", "https://www.anthropic.com/legal/aup"),
        ),
    ),
    Provider.OPENAI: Notice(
        Provider.OPENAI,
        VERSION,
        "The terms of the server and of its model apply to training on its answers",
        (_OTHER, "Your prompts and source texts are sent to the server's address."),
        (("OpenAI's terms, where the server is OpenAI's", "https://openai.com/policies/services-agreement/"),),
    ),
}


class TermsNotAccepted(ConflictError):
    """details: the notice, for whoever shows it."""

    code = "terms_not_accepted"


async def accepted(session: AsyncSession, provider: Provider) -> ProviderTerms | None:
    """Who accepted the present notice for the transaction's workspace."""
    rows = await session.scalars(
        select(ProviderTerms).where(ProviderTerms.provider == provider.value, ProviderTerms.version == VERSION)
    )
    return rows.first()


async def accept(session: AsyncSession, provider: Provider, *, user_id: UUID | None, email: str) -> bool:
    """False when it was accepted before: the first stays on record."""
    row = await session.execute(
        insert(ProviderTerms)
        .values(
            id=uuid7(),
            workspace_id=session.info["workspace_id"],
            provider=provider.value,
            version=VERSION,
            accepted_by=user_id,
            accepted_email=email,
        )
        .on_conflict_do_nothing(index_elements=["workspace_id", "provider", "version"])
        .returning(ProviderTerms.id)
    )
    return row.first() is not None


async def require(session: AsyncSession, provider: Provider) -> None:
    """Before anything is sent. Raises TermsNotAccepted that says how to accept, on a page and on a terminal."""
    if await accepted(session, provider) is None:
        notice = NOTICES[provider]
        links = " ".join(address for _, address in notice.links)
        raise TermsNotAccepted(
            f"{notice.title}: read them ({links}) and accept under Settings › Providers, or with "
            f"`brightrun providers accept-terms {provider.value}`.",
            details=told(notice),
        )


def told(notice: Notice) -> dict[str, Any]:
    return {
        "provider": notice.provider.value,
        "version": notice.version,
        "title": notice.title,
        "text": list(notice.text),
        "links": [{"label": label, "url": url} for label, url in notice.links],
    }


_REFUSALS = {
    "frontier_llm": (
        "Claude declined because the request could assist the development of a competing AI model, which Anthropic's "
        "commercial terms restrict; harmless work on models can be caught by this too. Sending it again unchanged "
        "rarely helps, and BrightRun does not reword a request to get round a refusal. Check your agreement with "
        "Anthropic (https://www.anthropic.com/legal/commercial-terms), or have these conversations written by another "
        "model: any OpenAI-compatible server can be set up under Settings › Providers."
    ),
    "cyber": "Claude declined because the request could enable harm to computer systems; harmless work on security can "
    "be caught by this too. Look at the topic and the source text of this item.",
    "bio": "Claude declined because the request could enable biological harm; useful work in the life sciences can be "
    "caught by this too. Look at the topic and the source text of this item.",
    "reasoning_extraction": "Claude declined because the request asks for its internal reasoning in the answer. Look "
    "at the template: a conversation needs replies, not the model's reasoning.",
    "general_harms": "Claude declined because the request could be related to harm; harmless requests can be caught by "
    "this too. Look at the topic and the source text of this item.",
}


def refusal_words(category: str | None, explanation: str | None = None) -> str:
    """What a refusal means and what to do, for the person who meets it."""
    words = _REFUSALS.get(category or "")
    if words is None:
        words = "The model declined to write this" + (f" (category {category})" if category else "")
        words += ". Look at the topic, the source text and the template of this item, or use another model."
    return f"{words} The provider says: “{explanation}”" if explanation else words
