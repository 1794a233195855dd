"""The service's logs: structured lines on standard error, from this package and from libraries.

Lines carry names, counts and reasons. Values of users stand in debug lines only; keys and tokens in none.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from otel_usageflow.config.model import LogsConfig

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def configure(config: LogsConfig, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream`, standard error by default.

    Libraries are heard from `warn` on only: what they write below that may quote what users sent.
    """
    stream = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(config, stream)],
        )
    )
    level = _LEVELS[config.level]
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("otel_usageflow").setLevel(level)
    logging.captureWarnings(capture=True)
    # A log that cannot be written (a closed pipe) must not stop billing.
    logging.raiseExceptions = False


def _rendering(config: LogsConfig, stream: TextIO) -> list[Processor]:
    if config.encoding == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # The plain traceback: the pretty one prints local variables, which hold payloads and keys.
    renderer = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [renderer]
