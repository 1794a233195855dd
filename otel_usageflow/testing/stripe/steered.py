"""All that can be steered and read, put together: what `StripeDouble` is besides its sockets."""

from collections import deque

from otel_usageflow.testing.stripe.message import Call
from otel_usageflow.testing.stripe.rejections import Rejected
from otel_usageflow.testing.stripe.steer_connect import ConnectSteering
from otel_usageflow.testing.stripe.steer_objects import ObjectSteering
from otel_usageflow.testing.stripe.steer_usage import UsageSteering
from otel_usageflow.testing.stripe.steer_webhooks import WebhookSteering


class Steered(ObjectSteering, UsageSteering, ConnectSteering, WebhookSteering):
    """Steered by plain calls, or by those below `/_double/`."""

    calls: deque[Call]
    rejected: list[Rejected]
