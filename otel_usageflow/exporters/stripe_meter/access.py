"""How a call says for whom it is made: nothing for the key's own account, a header for a connected one."""

from typing import Any, Protocol


class Access(Protocol):
    """Request options of the `stripe` package for one account; empty stands for the key's own."""

    def v1(self, account: str, **options: str) -> Any:
        """For `/v1`."""

    def v2(self, account: str) -> Any:
        """For `/v2`, which names accounts by their context."""


class PlatformAccess:
    """The exporter's own key acts for every account (docs.stripe.com/connect/authentication)."""

    def v1(self, account: str, **options: str) -> Any:
        """With `Stripe-Account`."""
        return {**options, "stripe_account": account} if account else options

    def v2(self, account: str) -> Any:
        """With `Stripe-Context`."""
        return {"stripe_context": account} if account else {}
