"""Webhooks, as tests steer them."""

from collections import deque
from collections.abc import Sequence

from otel_usageflow.testing.stripe.steering import Steering
from otel_usageflow.testing.stripe.webhook_endpoints import Kind, WebhookEndpoint, new_secret
from otel_usageflow.testing.stripe.webhook_faults import WebhookFault, WebhookRule
from otel_usageflow.testing.stripe.webhooks import Delivery, Webhooks


class WebhookSteering(Steering):
    """The part of the double that tells others what has happened."""

    webhooks: Webhooks

    def add_webhook(
        self,
        url: str,
        kind: Kind = "snapshot",
        *,
        secret: str | None = None,
        events: Sequence[str] = (),
        connect: bool = False,
        livemode: bool | None = None,
    ) -> WebhookEndpoint:
        """Tell an address, signed, of what happens from now on.

        Args:
            kind: `snapshot` events such as `customer.updated`, or `thin` ones about rejected meter events.
            secret: `whsec_...`; `WebhookEndpoint.secret` is the one that was made otherwise.
            events: types, `*` standing for any part; all by default.
            connect: hear of connected accounts instead of the platform's own.
        """
        mode = "_live_" in self.api_key if livemode is None else livemode
        endpoint = WebhookEndpoint(url, kind, mode, tuple(events), connect, [secret or new_secret()])
        self.webhooks.add(endpoint)
        return endpoint

    def webhook_fault(
        self, fault: WebhookFault, *, event: str | None = None, times: int | None = 1, seconds: float = 3_600
    ) -> WebhookRule:
        """Let deliveries go wrong; see `WebhookFault`. `WebhookRule.fired` counts.

        Args:
            event: only this type of event; None for any.
            times: None for ever, until `clear_webhook_faults`.
            seconds: of the late and of the old ones.
        """
        rule = WebhookRule(fault, event, times, seconds)
        self.webhooks.rules.append(rule)
        return rule

    def clear_webhook_faults(self) -> None:
        """Deliveries are as they should be again."""
        self.webhooks.rules.clear()

    @property
    def deliveries(self) -> deque[Delivery]:
        """The last attempts to deliver, with what was sent and answered."""
        return self.webhooks.deliveries
