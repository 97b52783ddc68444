"""Passwords: argon2id at OWASP's minimum, off the event loop, at most two at once (each takes 19 MB and 60 ms)."""

import asyncio

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from brightrun.errors import InvalidInputError

MINIMUM_LENGTH = 10
MAXIMUM_LENGTH = 1024

_hasher = PasswordHash([Argon2Hasher(memory_cost=19_456, time_cost=2, parallelism=1)])
_slots = asyncio.Semaphore(2)
# Verified when the account does not exist, so that the answer takes as long as when it does.
_DECOY = _hasher.hash("no account has this password")


def check_strength(password: str) -> None:
    """Raises InvalidInputError unless the password is long enough to be one."""
    if len(password) < MINIMUM_LENGTH:
        problem = f"at least {MINIMUM_LENGTH} characters"
    elif len(password) > MAXIMUM_LENGTH:
        problem = f"at most {MAXIMUM_LENGTH} characters"
    elif len(set(password)) < 4:
        problem = "at least four different characters"
    else:
        return
    raise InvalidInputError(
        f"A password needs {problem}", code="validation_error", details={"password": [f"needs {problem}"]}
    )


async def hash_password(password: str) -> str:
    async with _slots:
        return await asyncio.to_thread(_hasher.hash, password)


async def verify_password(password: str, stored: str | None) -> bool:
    """False for a wrong password, and, after the same time, for no stored one."""
    async with _slots:
        right = await asyncio.to_thread(_hasher.verify, password[:MAXIMUM_LENGTH], stored or _DECOY)
    return right and stored is not None
