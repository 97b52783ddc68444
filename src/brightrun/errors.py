"""One exception root: every expected failure carries the status, the stable code and the sentence a person reads.

`brightrun.web.errors` turns these into HTTP answers and the command line turns them into an exit status; nothing
else decides how an error looks. To add one: subclass the nearest category, set `code`, write the sentence for the
person who meets it (what happened, where, what to do next).
"""

from typing import Any


class BrightRunError(Exception):
    """Root of every expected failure.

    status: HTTP status. code: stable, machine-readable. message: one sentence for a person. details: JSON-able.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self, message: str, *, code: str | None = None, details: Any = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InvalidInputError(BrightRunError, ValueError):
    """The caller sent something we cannot accept; `details` is field → list of messages where it fits."""

    status = 400
    code = "invalid_input"


class UnauthenticatedError(BrightRunError):
    status = 401
    code = "unauthenticated"


class ForbiddenError(BrightRunError, PermissionError):
    status = 403
    code = "forbidden"


class NotFoundError(BrightRunError, LookupError):
    """Absent, or in another workspace: the two are not told apart."""

    status = 404
    code = "not_found"


class ConflictError(BrightRunError):
    status = 409
    code = "conflict"


class TooLargeError(BrightRunError):
    status = 413
    code = "too_large"


class RateLimitedError(BrightRunError):
    status = 429
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int, details: Any = None) -> None:
        super().__init__(message, details=details)
        self.retry_after_s = retry_after_s


class StorageFullError(BrightRunError, OSError):
    """No room left on the disk, in the bucket or in the workspace's quota."""

    status = 507
    code = "storage_full"


class UnavailableError(BrightRunError):
    """Something this process depends on does not answer now; trying again later can help."""

    status = 503
    code = "unavailable"


class ConfigurationError(BrightRunError):
    """A setting is missing or contradicts another; the message names it."""

    status = 500
    code = "configuration"
