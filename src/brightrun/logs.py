"""Structured logs, with nothing in them that opens a door: signed URLs and tokens are masked wherever they appear."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

# The query of any URL that carries a signature, and our own tokens and one-time links.
_SIGNED_URL = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']*(?:signature|sig|token|X-Amz-)[^\s\"']*", re.IGNORECASE)
_SIGNED_PATH = re.compile(r"(/[^\s\"'?]*)\?[^\s\"']*(?:signature|sig|token|X-Amz-)[^\s\"']*", re.IGNORECASE)
_TOKEN = re.compile(r"\b(br_)[A-Za-z0-9_-]{16,}")
_LINK = re.compile(r"(/(?:signin-link|invitations|reset-password)/)[A-Za-z0-9_-]{16,}")


def mask(text: str) -> str:
    """`text` with signatures, tokens and one-time links replaced by `***`."""
    text = _SIGNED_URL.sub(r"\1?***", text)
    text = _SIGNED_PATH.sub(r"\1?***", text)
    text = _TOKEN.sub(r"\1***", text)
    return _LINK.sub(r"\1***", text)


def _mask_event(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _masked(value) for key, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value


def configure_logging(
    level: str = "info", log_format: Literal["auto", "console", "json"] = "auto", *, process: str = ""
) -> None:
    """Send structlog and the standard library's loggers to stderr in one shape. Safe to call again."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    render: list[Any] = (
        [
            _mask_event,
            # The default one takes a second for a traceback, and prints local variables, secrets among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
        if console
        else [structlog.processors.format_exc_info, _mask_event, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log whole URLs at INFO, presigned ones included; botocore logs each signature at DEBUG.
    for name in ("httpx2", "httpcore2", "httpx", "uvicorn.access", "botocore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers[:] = []
        logging.getLogger(name).propagate = True
    # procrastinate says every job at INFO and every poll at DEBUG; our own log lines say what matters.
    logging.getLogger("procrastinate").setLevel(logging.WARNING if level != "debug" else logging.INFO)
    structlog.contextvars.clear_contextvars()
    if process:
        structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
