"""A stateful double of Stripe's usage-based billing, over real HTTP; see docs/testing.md.

Read `double.py` (what a test uses) first, then `api.py` (the way of a call) and `meter_events.py` (what
becomes of an event).
"""

from otel_usageflow.testing.stripe.account import Violation
from otel_usageflow.testing.stripe.book import MeterEvent
from otel_usageflow.testing.stripe.clock import Clock, ManualClock
from otel_usageflow.testing.stripe.double import StripeDouble
from otel_usageflow.testing.stripe.faults import Fault, Rule
from otel_usageflow.testing.stripe.message import Call
from otel_usageflow.testing.stripe.rejections import Rejected, RejectRule
from otel_usageflow.testing.stripe.settings import RateLimits, Settings
from otel_usageflow.testing.stripe.webhook_endpoints import WebhookEndpoint
from otel_usageflow.testing.stripe.webhook_faults import WebhookFault, WebhookRule
from otel_usageflow.testing.stripe.webhooks import Delivery

__all__ = [
    "Call",
    "Clock",
    "Delivery",
    "Fault",
    "ManualClock",
    "MeterEvent",
    "RateLimits",
    "RejectRule",
    "Rejected",
    "Rule",
    "Settings",
    "StripeDouble",
    "Violation",
    "WebhookEndpoint",
    "WebhookFault",
    "WebhookRule",
]
