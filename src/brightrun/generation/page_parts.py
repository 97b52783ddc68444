"""What the pages of generation share."""

from typing import Any

from fastapi import Response

from brightrun.accounts.context import RequestContext
from brightrun.accounts.roles import Permission
from brightrun.llm.calls import Outcome
from brightrun.llm.prices import catalogue
from brightrun.scaffolding.pages import TIER_WORDS
from brightrun.web import views

CLASS_WORDS: dict[str, str] = {
    Outcome.REFUSAL: "Refused by the model",
    Outcome.TRUNCATED: "Cut off",
    Outcome.CONTEXT_OVERFLOW: "Too long for the model",
    Outcome.SCHEMA_INVALID: "Not in the form asked for",
    Outcome.SEMANTIC_INVALID: "Form without sense",
    Outcome.TRANSPORT: "No answer",
    Outcome.BUDGET: "Stopped by the cap",
    Outcome.REJECTED: "Request not accepted",
}
STATUS_WORDS = {
    "queued": ("Queued", "neutral", "clock"),
    "processing": ("Writing", "info", "circle-play"),
    "paused": ("Paused", "warning", "circle-pause"),
    "completed": ("Finished", "success", "circle-check"),
    "failed": ("Failed", "danger", "circle-x"),
    "cancelled": ("Cancelled", "neutral", "ban"),
}
REVIEW_WORDS = {
    "pending_review": ("To review", "neutral", "clock"),
    "approved": ("Approved", "success", "circle-check"),
    "needs_revision": ("Needs revision", "warning", "pencil"),
    "rejected": ("Rejected", "danger", "circle-x"),
    "archived": ("Archived", "neutral", "archive"),
}


def render(
    ctx: RequestContext, template: str, *, status: int = 200, block: str | None = None, **values: Any
) -> Response:
    return views.render(
        ctx.request,
        f"generation/{template}.html",
        status=status,
        block=block,
        can_write=Permission.CONVERSATIONS_WRITE in ctx.principal.permissions,
        class_words=CLASS_WORDS,
        status_words=STATUS_WORDS,
        review_words=REVIEW_WORDS,
        tier_words=TIER_WORDS,
        **values,
    )


def model_choices() -> list[tuple[str, str]]:
    """Models of the price file, the default first; a price that is unknown is said."""
    known = catalogue()
    models = sorted(known.models, key=lambda model: (model.id != known.default, model.name))
    return [(one.id, one.name if one.price is not None else f"{one.name}, price unknown") for one in models]
