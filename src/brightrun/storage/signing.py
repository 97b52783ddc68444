"""Our own signed URLs: an HMAC over everything that the URL allows.

A URL names what may be done by method, route, bucket, path and query parameters (expiry, exact size, expected hash,
part, file name). The signature covers all of them, known or not, so nothing can be added, dropped or changed; a URL
says nothing that the server must look up.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, urlencode

from brightrun.errors import InvalidInputError
from brightrun.storage.errors import UrlExpiredError, UrlInvalidError
from brightrun.storage.paths import Bucket

ROOT = "/storage/v1"


class UrlSigner:
    """Signs and checks URLs of one server.

    public_url: how clients reach the server, without a trailing slash. secret: the server's secret; the key of these
    URLs is derived from it. now: seconds since the epoch.
    """

    def __init__(self, public_url: str, secret: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._public_url = public_url.rstrip("/")
        self._key = hmac.digest(secret, b"brightrun object storage URLs, version 1", "sha256")
        self._now = now

    def url(
        self, method: str, route: str, bucket: Bucket, path: str, *, expires_s: float, **limits: str | int | None
    ) -> str:
        """Absolute URL `<public_url>/storage/v1/<route>/<bucket>/<path>?…`; limits that are None are left out."""
        params = {name: str(value) for name, value in limits.items() if value is not None}
        params["expires"] = str(int(self._now() + expires_s))
        params["signature"] = self._signature(method, route, bucket, path, params.items())
        return f"{self._public_url}{ROOT}/{route}/{bucket}/{quote(path)}?{urlencode(params)}"

    def check(
        self, method: str, route: str, bucket: str, path: str, query: Iterable[tuple[str, str]]
    ) -> Mapping[str, str]:
        """The limits of a request's URL; UrlInvalidError or UrlExpiredError when it allows nothing."""
        params = list(query)
        given = [value for name, value in params if name == "signature"]
        signed = [(name, value) for name, value in params if name != "signature"]
        expected = self._signature(method, route, bucket, path, signed)
        # Compared before anything in the URL is read: an altered URL learns nothing but that it is altered.
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(errors="replace"), expected.encode()):
            raise UrlInvalidError(
                "This storage URL is not valid: it was altered or cut, or is meant for another method. "
                "Ask for a new one."
            )
        limits = dict(signed)
        if self._now() >= int(limits["expires"]):
            raise UrlExpiredError("This storage URL has expired. Ask for a new one; what was stored stays stored.")
        return limits

    def _signature(self, method: str, route: str, bucket: str, path: str, params: Iterable[tuple[str, str]]) -> str:
        # JSON, so that no two different requests have one spelling.
        message = json.dumps([method, route, str(bucket), path, sorted(params)]).encode()
        return base64.urlsafe_b64encode(hmac.digest(self._key, message, hashlib.sha256)).decode().rstrip("=")


def attachment(filename: str) -> str:
    """Content-Disposition that downloads under `filename` (RFC 6266: plain ASCII for old clients, UTF-8 for others)."""
    if any(c in filename for c in "\r\n\0"):
        raise InvalidInputError("A download's file name cannot have line breaks.")
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
