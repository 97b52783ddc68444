"""What a process of the platform holds: settings, secret, database, objects. Built once, passed to all that need it."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from brightrun.db.session import Database
from brightrun.errors import ConfigurationError
from brightrun.settings import Settings
from brightrun.storage import ObjectStore


@dataclass
class Platform:
    """One per process.

    public_url: how browsers and trainers reach the server; no trailing slash.
    secret: 16 bytes or more; never used itself, only through `derive_key`.
    """

    settings: Settings
    secret: bytes = field(repr=False)
    db: Database
    store: ObjectStore
    public_url: str

    @property
    def runs_dir(self) -> Path:
        """Where run directories live on this machine."""
        return self.settings.data / "runs"


_LEAST_SECRET = 16


def derive_key(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose, so that no two uses share one."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def load_secret(settings: Settings) -> bytes:
    """The secret key from the settings, else the one kept in the data directory (made on first use).

    Raises ConfigurationError for one that is too short to keep anything secret.
    """
    if settings.secret_key is not None:
        given = settings.secret_key.get_secret_value().strip().encode()
        if len(given) < _LEAST_SECRET:
            raise ConfigurationError(
                f"BRIGHTRUN_SECRET_KEY has {len(given)} characters; it needs {_LEAST_SECRET} that nobody can guess: "
                "`openssl rand -hex 32` makes some"
            )
        return given
    path = secret_path(settings)
    if not path.exists():
        keep_secret(settings, secrets.token_urlsafe(48).encode())
    kept = path.read_text().strip().encode()
    if len(kept) < _LEAST_SECRET:
        raise ConfigurationError(
            f"{path} is damaged: it holds {len(kept)} characters. A backup has it as `secret_key`; without that, "
            "delete the file: links and signed URLs given out until now stop working"
        )
    return kept


def secret_path(settings: Settings) -> Path:
    return settings.data / "secret_key"


def keep_secret(settings: Settings, secret: bytes) -> None:
    """Write the key into the data directory, whole and for this user alone, unless there is one."""
    path = secret_path(settings)
    settings.data.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".secret_key.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secret)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(aside, path)  # Unlike rename, fails when another process was first: both then read the same key.
    except FileExistsError:
        pass
    finally:
        aside.unlink()
