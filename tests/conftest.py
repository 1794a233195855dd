"""What holds for every test: with REQUIRE_ALL=1 nothing may be skipped.

Some tests need what not every machine has (Node, an old generator). A developer sees them skipped, with the reason;
where everything must be shown, a skip is a failure.
"""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

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
