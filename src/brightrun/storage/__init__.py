"""Object storage: bytes by bucket and path, on a local disk or in S3, behind one interface and signed URLs.

Importing this package is cheap: obstore and botocore are imported by the store that needs them.
"""

from typing import TYPE_CHECKING

from brightrun.storage.paths import Bucket, object_path
from brightrun.storage.store import (
    Multipart,
    MultipartStatus,
    ObjectInfo,
    ObjectStore,
    OpenMultipart,
    PartUrl,
    StoredPart,
)

if TYPE_CHECKING:
    from brightrun.settings import Settings

__all__ = [
    "Bucket",
    "Multipart",
    "MultipartStatus",
    "ObjectInfo",
    "ObjectStore",
    "OpenMultipart",
    "PartUrl",
    "StoredPart",
    "object_path",
    "open_store",
]


def open_store(settings: "Settings", *, public_url: str, secret: bytes) -> ObjectStore:
    """The object store of these settings.

    public_url: how clients reach our server, for the URLs that it answers itself. secret: the server's secret key;
    every process of one installation must give the same. ConfigurationError when S3 is not configured.
    """
    from brightrun.storage.signing import UrlSigner

    signer = UrlSigner(public_url, secret)
    if settings.storage == "s3":
        from brightrun.storage.s3 import S3Store

        return S3Store(settings, signer)
    from brightrun.storage.local import LocalStore

    return LocalStore(settings.data, signer, min_free_bytes=settings.min_free_disk_bytes)
