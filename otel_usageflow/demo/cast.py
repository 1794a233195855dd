"""Who plays in the demo: the customers, how each makes itself known, and what things cost."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

JWT_SECRET: Final = "the-secret-of-the-demo-and-of-nothing-else"
"""Signs the tokens of the sample API; the same text stands in `collector_config/demo.yaml`."""
STRIPE_KEY: Final = "sk_test_demo"
"""The key of the Stripe double."""

PRICES: Final[Mapping[str, Decimal]] = {
    "chat_request": Decimal("0.01"),
    "chat_tokens": Decimal("0.00002"),
    "search_request": Decimal("0.002"),
    "report": Decimal("0.25"),
    "file_read": Decimal("0.0005"),
}
"""Event name of a meter -> dollars for one unit."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of the sample API.

    `metadata` is what stands on the customer at Stripe; a user found on a span is looked up there.
    """

    name: str
    account_id: str = ""
    api_key: str = ""
    tenant: str = ""
    org: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """What an operator writes on the customer at Stripe; of an API key only the digest."""
        digest = hashlib.sha256(self.api_key.encode()).hexdigest() if self.api_key else ""
        fields = {
            "account_id": self.account_id,
            "api_key_sha256": digest,
            "tenant": self.tenant,
            "org": self.org,
        }
        return {name: value for name, value in fields.items() if value}


ACME = Customer("Acme", account_id="acme", api_key="demo-key-of-acme")
GLOBEX = Customer("Globex", account_id="globex", org="globex")
INITECH = Customer("Initech", api_key="demo-key-of-initech")
UMBRELLA = Customer("Umbrella", tenant="umbrella")
HOOLI = Customer("Hooli", tenant="hooli", org="hooli")
STARK = Customer("Stark", account_id="stark")
"""Uses the API from the beginning, and becomes a customer at Stripe in the middle."""

AT_START: Final = (ACME, GLOBEX, INITECH, UMBRELLA, HOOLI)
CUSTOMERS: Final = (*AT_START, STARK)

UNKNOWN_ACCOUNT: Final = "wayne"
"""Uses the API and never becomes a customer."""


@dataclass(slots=True)
class Bill:
    """Quantities by event name, and what they come to."""

    quantities: dict[str, Decimal] = field(default_factory=dict)

    @property
    def owed(self) -> Decimal:
        """Dollars, exactly."""
        return sum((PRICES[name] * quantity for name, quantity in self.quantities.items()), Decimal(0))


def dollars(amount: Decimal) -> str:
    """An amount rounded to the cent, as `$1,234.50`."""
    return f"${amount:,.2f}"
