"""Restricted keys: what a key may do (docs.stripe.com/keys/restricted-api-keys), by the names of Stripe's list."""

from collections.abc import Mapping, Set

from otel_usageflow.testing.stripe.failures import StripeFailure

_RESOURCES = (
    ("/v1/billing/meter_event_adjustments", "billing_meter_event_adjustment"),
    ("/v1/billing/meter_events", "billing_meter_event"),
    ("/v2/billing/meter_event_session", "billing_meter_event"),
    ("/v1/billing/meters", "billing_meter"),
    ("/v1/customers", "customer"),
    ("/v1/events", "event"),
    ("/v2/core/events", "event"),
    ("/v1/webhook_endpoints", "webhook"),
    ("/v2/core/event_destinations", "webhook"),
    ("/v1/accounts", "connected_account"),
)
"""Beginning of a path -> resource. Which one the session needs is documented nowhere."""
PERMISSIONS = frozenset(f"{resource}_{kind}" for _, resource in _RESOURCES for kind in ("read", "write"))
"""What can be granted. Writing includes reading."""


def needed(method: str, path: str) -> str | None:
    """The permission that a call needs, if any."""
    for beginning, resource in _RESOURCES:
        if path.startswith(beginning):
            return f"{resource}_{'read' if method == 'GET' else 'write'}"
    return None


class Permissions:
    """What each key may do; a key that is not listed may do everything. Apps are listed by their client id.

    Raises:
        ValueError: a permission that no endpoint asks for.
    """

    def __init__(self, by_key: Mapping[str, Set[str]]) -> None:
        for key, granted in by_key.items():
            if unknown := set(granted) - PERMISSIONS:
                raise ValueError(f"{key[:8]}...: there is no permission {min(unknown)}")
        self._by_key = dict(by_key)

    def move(self, old: str, new: str) -> None:
        """Let a key do what another may do."""
        if old in self._by_key:
            self._by_key[new] = self._by_key[old]

    def admit(self, key: str, method: str, path: str, account: str | None) -> None:
        """Let a call through.

        Raises:
            StripeFailure: 403, which names the permission that is missing.
        """
        permission = self._missing(key, method, path)
        if permission is None:
            return
        where = _on(account)
        raise StripeFailure(
            403,
            f"The provided key '{key[:8]}***{key[-4:]}' does not have the required permissions for this "
            f"endpoint{where}. Having the 'rak_{permission}' permission would allow this request to continue.",
        )

    def admit_app(self, client_id: str, method: str, path: str, account: str) -> None:
        """Let a call of a Stripe App through.

        Raises:
            StripeFailure: 403 `more_permissions_required_for_application`.
        """
        permission = self._missing(client_id, method, path)
        if permission is not None:
            raise StripeFailure(
                403,
                f"This application does not have the required permissions for this endpoint{_on(account)}. "
                f"Having the '{permission}' permission would allow this request to continue.",
                code="more_permissions_required_for_application",
            )

    def _missing(self, key: str, method: str, path: str) -> str | None:
        granted = self._by_key.get(key)
        permission = None if granted is None else needed(method, path)
        if granted is None or permission is None:
            return None
        if permission in granted or permission.replace("_read", "_write") in granted:
            return None
        return permission


def _on(account: str | None) -> str:
    return f" on account '{account}'" if account else ""
