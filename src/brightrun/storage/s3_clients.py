"""How S3 is reached: settings to clients, and S3's faults to ours.

obstore moves the bytes. botocore (the extra `s3`) signs URLs and controls multipart uploads, which obstore cannot:
parts by presigned URL, a download's file name, a signed Content-Length.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from brightrun.errors import BrightRunError, ConfigurationError, StorageFullError, UnavailableError
from brightrun.settings import Settings
from brightrun.storage.errors import ObjectNotFoundError, UploadNotFoundError

if TYPE_CHECKING:
    import obstore.store
    from obstore.store import S3Credential

_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull"}
_DENIED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
    "InvalidToken",
}


class S3Clients:
    """The clients of one configuration. `control` asks, `public` only signs (with the endpoint that browsers see)."""

    def __init__(self, settings: Settings) -> None:
        try:
            import botocore.session
            from botocore.config import Config
        except ImportError as error:
            raise ConfigurationError(
                "BRIGHTRUN_STORAGE=s3 needs botocore: install BrightRun with its extra, pip install 'brightrun[s3]'."
            ) from error
        if (settings.s3_access_key_id is None) != (settings.s3_secret_access_key is None):
            raise ConfigurationError(
                "Set both BRIGHTRUN_S3_ACCESS_KEY_ID and BRIGHTRUN_S3_SECRET_ACCESS_KEY, or neither to use the "
                "machine's own AWS credentials."
            )
        self._settings = settings
        self._session = botocore.session.get_session()
        if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
            self._session.set_credentials(
                settings.s3_access_key_id.get_secret_value(), settings.s3_secret_access_key.get_secret_value()
            )
        if self._session.get_credentials() is None:
            raise ConfigurationError(
                "There are no credentials for S3: set BRIGHTRUN_S3_ACCESS_KEY_ID and BRIGHTRUN_S3_SECRET_ACCESS_KEY, "
                "or give the machine AWS credentials."
            )
        # Most S3-compatible servers know one host only; AWS wants the bucket in the host.
        self._path_style = settings.s3_endpoint is not None
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if self._path_style else "virtual"},
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=300,
            # Otherwise newer botocore signs a checksum into each upload URL that a plain PUT does not send.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )

        def client(endpoint: str | None) -> Any:
            return self._session.create_client(
                "s3", region_name=settings.s3_region, endpoint_url=endpoint, config=config
            )

        self.control = client(settings.s3_endpoint)
        self.public = client(settings.s3_public_endpoint or settings.s3_endpoint)
        self._stores: dict[str, obstore.store.S3Store] = {}

    def objects(self, s3_bucket: str) -> "obstore.store.S3Store":
        """The obstore of one S3 bucket."""
        store = self._stores.get(s3_bucket)
        if store is None:
            from obstore.store import S3Store

            settings = self._settings
            endpoint: Any = {"endpoint": settings.s3_endpoint} if settings.s3_endpoint else {}
            store = self._stores[s3_bucket] = S3Store(
                s3_bucket,
                region=settings.s3_region,
                virtual_hosted_style_request=not self._path_style,
                credential_provider=self._credentials,
                client_options={
                    "allow_http": (settings.s3_endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=10),
                    # A silent connection is given up soon. The other limit is for a whole request, body included;
                    # a longer read goes on where it was cut.
                    "read_timeout": timedelta(seconds=30),
                    "timeout": timedelta(seconds=300),
                },
                retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
                **endpoint,
            )
        return store

    def _credentials(self) -> "S3Credential":
        frozen = self._session.get_credentials().get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore refreshes what expires; ask it again before long.
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }


@contextlib.contextmanager
def s3_faults(what: str) -> Iterator[None]:
    """Turn what obstore and botocore raise into errors for a person; `what` names the object or bucket."""
    import obstore.exceptions
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise _fault(code, error.response.get("Error", {}).get("Message", ""), what) from error
    except BotoCoreError as error:
        raise _fault("", str(error), what) from error
    except (FileNotFoundError, PermissionError, obstore.exceptions.BaseError) as error:
        text = str(error)
        found = re.search(r"<Code>(\w+)</Code>", text)
        code = found[1] if found else "NoSuchKey" if isinstance(error, FileNotFoundError) else ""
        reason = re.search(r"<Message>([^<]*)</Message>", text)
        raise _fault(code, reason[1] if reason else text.partition("\n")[0], what) from error


def _fault(code: str, reason: str, what: str) -> BrightRunError:
    match code:
        case "NoSuchBucket":
            return ConfigurationError(
                f"{what}: the S3 bucket does not exist. Create it, or let our credentials create buckets and start "
                "BrightRun again."
            )
        case "NoSuchUpload":
            return UploadNotFoundError(
                f"{what}: there is no such upload. It was completed, aborted, or swept after waiting too long."
            )
        case "NoSuchKey" | "404" | "NotFound":
            return ObjectNotFoundError(f"{what}: there is no such object.")
        case _ if code in _FULL:
            return StorageFullError(f"{what} could not be stored: S3 says there is no room left ({code}).")
        case _ if code in _DENIED or code in {"403", "401"}:
            return ConfigurationError(
                f"{what}: S3 refused our credentials ({code}: {reason}). Check BRIGHTRUN_S3_ACCESS_KEY_ID, "
                "BRIGHTRUN_S3_SECRET_ACCESS_KEY, BRIGHTRUN_S3_REGION and what they may do."
            )
    return UnavailableError(f"{what}: S3 did not do it ({': '.join(filter(None, (code, reason)))}). Try again later.")
