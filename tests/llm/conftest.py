"""One provider server for this room's tests; each test resets it to what it needs."""

from collections.abc import Iterator

import pytest

from provider_server import Provider, running


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with running() as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    _provider.reset()
    return _provider
