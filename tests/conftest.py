"""What holds for every test: with REQUIRE_ALL=1 nothing may be skipped, and none leaves logs changed for the next.

Some tests need what not every machine has (Node, an old generator). A developer sees them skipped, with the reason;
where everything must be shown, a skip is a failure.
"""

import logging
import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
import structlog

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: Report) -> Report:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL=1 allows no skip. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that skips itself."""
    return _refuse_skip((yield))


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Commands that run in the process of a test set up the logs of all of it."""
    root, ours = logging.getLogger(), logging.getLogger("otel_usageflow")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    root.handlers, root.level = before[0], before[1]
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
