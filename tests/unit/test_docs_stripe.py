"""What docs/faults.md and docs/stripe.md name is there: tests, permissions, questions of `make stripe-live`."""

import re
from pathlib import Path

from test_docs_guarantees import functions

from otel_usageflow.exporters.stripe_meter import permissions
from otel_usageflow.exporters.stripe_meter.permissions import Permission, form

ROOT = Path(__file__).parents[2]
FAULTS = (ROOT / "docs" / "faults.md").read_text()
STRIPE = (ROOT / "docs" / "stripe.md").read_text()
_ID = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<test>\w+)`")


def test_every_fault_has_a_test() -> None:
    """Each row of the tables names tests, and each of them is a function of that file."""
    rows = [
        line for line in FAULTS.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))
    ]
    assert len(rows) > 15
    assert [row for row in rows if not _ID.search(row)] == []
    assert [one[0] for one in _ID.finditer(FAULTS) if one["test"] not in functions(ROOT / one["file"])] == []


def test_every_question_is_asked() -> None:
    """What the page says that a line of `make stripe-live` settles, the script does ask."""
    asked = "\n".join(path.read_text() for path in (ROOT / "tests" / "live").glob("*.py"))
    named = re.findall(r"`settles: ([^`]+)`", STRIPE)
    assert len(named) > 15
    assert [one for one in named if one not in asked and f'"{one.removeprefix("v1, ")}"' not in asked] == []


def test_every_permission_stands_in_the_table() -> None:
    """Each permission that the service or a command can need, and the form's address."""
    needed = [one for one in vars(permissions).values() if isinstance(one, Permission)]
    assert [one.name for one in needed if f"`{one.name}`" not in STRIPE] == []
    basic = (permissions.SEND, permissions.METERS, permissions.CUSTOMERS, permissions.EVENTS)
    assert form(basic, "live") in STRIPE
