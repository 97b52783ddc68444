"""Waiting for a condition with a deadline: how tests synchronise with other processes, whatever the time."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
import psutil

T = TypeVar("T")


def eventually(what: str, check: Callable[[], T], *, within: float = 60.0) -> T:
    """What `check` returns as soon as it is true. After `within` seconds an AssertionError shows the last failure.

    A check may also fail by an assertion, a refused connection or a process that is gone: it is asked again.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            if found := check():
                return found
            failure: object = "the condition is false"
        except (httpx2.HTTPError, AssertionError, psutil.Error) as error:
            failure = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s: {failure}")
        time.sleep(0.05)  # Between two looks; the condition decides, not the time.
