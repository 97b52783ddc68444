"""What can go wrong between a caller and the bytes; each with the stable code the API answers."""

from brightrun.errors import BrightRunError, ConflictError, ForbiddenError, InvalidInputError, NotFoundError


class UrlExpiredError(ForbiddenError):
    """The signature is ours, its time is over."""

    code = "url_expired"


class UrlInvalidError(ForbiddenError):
    """The signature does not fit the request: altered, cut, for another method, or signed with another secret."""

    code = "url_invalid"


class SizeMismatchError(InvalidInputError):
    """Not as many bytes arrived as were announced; the message names both numbers."""

    code = "size_mismatch"


class HashMismatchError(InvalidInputError):
    """The SHA-256 of what arrived is not the announced one."""

    code = "hash_mismatch"


class ObjectNotFoundError(NotFoundError):
    code = "object_not_found"


class ObjectExistsError(ConflictError):
    """An upload URL writes its object once; other bytes are there already."""

    code = "object_exists"


class UploadNotFoundError(NotFoundError):
    """No multipart upload of this id: aborted, swept, or never started."""

    code = "upload_not_found"


class UploadIncompleteError(ConflictError):
    """Completion was asked for while parts are missing; `details["missing"]` lists their numbers."""

    code = "upload_incomplete"


class PartConflictError(ConflictError):
    """This part is stored already, with other content."""

    code = "part_conflict"


class UploadFailedError(BrightRunError):
    """The client-side uploader gave up; the message says after what, and whether a later try resumes."""

    status = 502
    code = "upload_failed"
