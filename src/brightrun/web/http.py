"""How every JSON answer looks: one success shape, one list shape, one pagination."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from brightrun.errors import InvalidInputError

T = TypeVar("T")


class Success(BaseModel, Generic[T]):
    success: Literal[True] = True
    data: T


class Items(BaseModel, Generic[T]):
    """One page of a list. total: of all pages, after filters."""

    items: list[T]
    total: int
    page: int
    limit: int


class Failure(BaseModel):
    """What every error answers, with its status. details: for 400, field → messages."""

    error: str
    code: str
    details: Any = None


class Page(BaseModel):
    """Which page of a list; `page` counts from 1."""

    page: int = 1
    limit: int = 25

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit


def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000, description="Page, from 1")] = 1,
    limit: Annotated[int, Query(ge=1, le=100, description="Items a page")] = 25,
) -> Page:
    return Page(page=page, limit=limit)


PageParams = Annotated[Page, Depends(_page)]


def one(data: T) -> Success[T]:
    """`{"success": true, "data": …}`; `data` is a model with the thing's name as its only field."""
    return Success(data=data)


def many(items: list[T], total: int, page: Page) -> Success[Items[T]]:
    return Success(data=Items(items=items, total=total, page=page.page, limit=page.limit))


def pick_sort(sort: str, allowed: dict[str, Any]) -> Any:
    """The ORDER BY of a whitelisted `sort` (`name`, `-name`). Raises InvalidInputError that lists what is allowed."""
    column = allowed.get(sort.removeprefix("-"))
    if column is None:
        listed = ", ".join(f"{name}, -{name}" for name in allowed)
        raise InvalidInputError(
            f"cannot sort by {sort!r}", code="validation_error", details={"sort": [f"one of: {listed}"]}
        )
    return column.desc() if sort.startswith("-") else column.asc()


FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The request is not valid; `details` names the fields"},
    401: {"model": Failure, "description": "Not signed in, or the token is bad or expired"},
    403: {"model": Failure, "description": "The role or the token's scopes do not allow this"},
    404: {"model": Failure, "description": "Absent, or in another workspace"},
    409: {"model": Failure, "description": "Not in the state that this needs"},
    413: {"model": Failure, "description": "Too large"},
    429: {"model": Failure, "description": "Too many requests; Retry-After says when"},
    500: {"model": Failure, "description": "A fault of ours; the request id finds it in the log"},
    503: {"model": Failure, "description": "Something this needs does not answer now"},
    507: {"model": Failure, "description": "No room left on the disk or in the workspace's quota"},
}
"""The error answers that every API route documents."""
