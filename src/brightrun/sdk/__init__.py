"""BrightRun from Python: `Client` and `AsyncClient`. See `brightrun.sdk.client`."""

from brightrun.sdk.async_client import AsyncClient
from brightrun.sdk.calls import ApiError
from brightrun.sdk.client import Client

__all__ = ["ApiError", "AsyncClient", "Client"]
