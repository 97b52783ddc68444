"""What a webhook may not call: the network behind the server."""

import asyncio

import pytest

from brightrun.notifications.targets import Target, TargetError, find_target
from installation import make_settings


def target(url: str, **settings: object) -> Target:
    return asyncio.run(find_target(url, make_settings(**settings)))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8321/api",
        "https://127.0.0.1",
        "https://localhost/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1",
        "https://192.168.1.1",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://0.0.0.0/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
    ],
)
def test_addresses_that_are_not_public_are_refused(url: str) -> None:
    with pytest.raises(TargetError):
        target(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8",
        "https://",
        "8.8.8.8",
        "https://me:secret@8.8.8.8/",
        "https://8.8.8.8:99999/",
        "https://8.8.8.8/#x",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(TargetError):
        target(url, allow_private_webhooks=True)


def test_http_is_for_private_networks_only() -> None:
    with pytest.raises(TargetError, match="https"):
        target("http://8.8.8.8/hook", allow_private_webhooks=True)
    found = target("http://127.0.0.1:9/hook?a=b", allow_private_webhooks=True)
    assert (found.url, found.authority) == ("http://127.0.0.1:9/hook?a=b", "127.0.0.1:9")


def test_a_public_address_passes() -> None:
    assert target("https://8.8.8.8/hook").url == "https://8.8.8.8:443/hook"
