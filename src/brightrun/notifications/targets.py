"""Where a webhook may go. A server that calls any URL it is given would open the network behind it to its users."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from brightrun.errors import InvalidInputError
from brightrun.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetError(InvalidInputError):
    """The URL may not be called; the message says why and what to do."""

    code = "webhook_url"


@dataclass(frozen=True)
class Target:
    """host, authority: as the URL names it, for TLS and for the Host header. url: with the address that was looked at
    in the host's place, so that a name cannot point elsewhere between the look and the call."""

    host: str
    authority: str
    url: str


def parts_of(url: str) -> SplitResult:
    """The parts of a URL that can be called at all.

    Raises TargetError.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (reading it checks it)
    except ValueError as error:
        raise TargetError(f"This is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError("A webhook's URL begins with https://")
    if parts.username is not None or parts.password is not None:
        raise TargetError("A webhook's URL holds no user name and password; the signature proves who calls")
    if parts.fragment:
        raise TargetError("A webhook's URL has no part after #")
    return parts


async def find_target(url: str, settings: Settings) -> Target:
    """Look the host up, and refuse what is not on the public network unless the settings allow it.

    Raises TargetError for a URL that may not be called, OSError for a host that cannot be found.
    """
    parts = parts_of(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    private = [address for address in addresses if not _is_public(address)]
    if private and not settings.allow_private_webhooks:
        raise TargetError(
            f"{host} is {private[0]}, an address of a private network. Whoever runs this server can allow such with "
            "BRIGHTRUN_ALLOW_PRIVATE_WEBHOOKS=true"
        )
    if parts.scheme == "http" and not private:
        raise TargetError("Over the public network a webhook needs https://, or anybody on the way could read it")
    address = addresses[0]
    shown = f"[{address}]" if address.version == 6 else str(address)
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    authority = parts.netloc
    return Target(host, authority, f"{parts.scheme}://{shown}:{port}{path}{query}")


def _is_public(address: Address) -> bool:
    """Not reserved, loopback, link-local (cloud metadata), multicast or private, nor such a one hidden in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
