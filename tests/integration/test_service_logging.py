"""The service's logs, as they are written."""

import io
import json
import logging
import warnings

import pytest
import structlog

from otel_usageflow.config.model import LogsConfig
from otel_usageflow.service.logging import configure


def written(level: str = "info", encoding: str = "json") -> tuple[io.StringIO, structlog.stdlib.BoundLogger]:
    stream = io.StringIO()
    configure(LogsConfig.model_validate({"level": level, "encoding": encoding}), stream)
    return stream, structlog.get_logger("otel_usageflow.test")


def test_json() -> None:
    """A line is one JSON object with the time in UTC, the level, the event and its fields."""
    stream, log = written()
    log.info("ready", port=4317)
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "ready", "level": "info", "logger": "otel_usageflow.test", "port": 4317}


def test_console() -> None:
    """For people, the event and its fields stand in one line without colours when it is no terminal."""
    stream, log = written(encoding="console")
    log.warning("ledger_unavailable", error="disk full")
    assert "ledger_unavailable" in stream.getvalue()
    assert "error='disk full'" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_levels(level: str, expected: int) -> None:
    """Nothing below the level is written."""
    stream, log = written(level)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert len(stream.getvalue().splitlines()) == expected


def test_libraries() -> None:
    """Libraries are heard from warnings on, in the same form, even when this package is at debug level."""
    stream, _log = written("debug")
    logging.getLogger("stripe").info("Request of sk_live_secret")
    logging.getLogger("aiohttp.server").error("broken %s", "pipe")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["logger"], line["event"], line["level"]) == ("aiohttp.server", "broken pipe", "error")


def test_python_warnings() -> None:
    """Warnings of Python are lines of the log, too."""
    stream, _log = written()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"


@pytest.mark.parametrize("encoding", ["json", "console"])
def test_tracebacks_show_no_values(encoding: str) -> None:
    """A traceback has no local variables: they hold payloads and keys."""
    stream, log = written(encoding=encoding)
    api_key = "sk_live_" + "secret"
    try:
        raise ZeroDivisionError(len(api_key))
    except ZeroDivisionError:
        log.exception("crashed")
    assert "ZeroDivisionError" in stream.getvalue()
    assert "sk_live_secret" not in stream.getvalue()
