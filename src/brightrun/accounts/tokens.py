"""Random secrets that prove something: shown once, kept as SHA-256."""

import hashlib
import secrets

API_TOKEN_PREFIX = "br_"  # noqa: S105


def new_token(prefix: str = "") -> str:
    """256 random bits, URL-safe."""
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is stored and looked up. A fast hash is enough for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
