"""What a process of the platform holds: settings, secret, database, objects. Built once, passed to all that need it."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from brightrun.db.session import Database
from brightrun.settings import Settings
from brightrun.storage import ObjectStore


@dataclass
class Platform:
    """One per process.

    public_url: how browsers and trainers reach the server; no trailing slash.
    secret: 32 bytes or more; never used itself, only through `derive_key`.
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


def derive_key(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose, so that no two uses share one."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def load_secret(settings: Settings) -> bytes:
    """The secret key from the settings, else the one kept in the data directory (made on first use, mode 0600)."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = settings.data / "secret_key"
    if not path.exists():
        settings.data.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".secret_key.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(48))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(aside, path)  # Unlike rename, fails when another process was first: both then read the same key.
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_text().strip().encode()
