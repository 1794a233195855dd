"""Identities of objects, in Stripe's form."""

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 14) -> str:
    """A fresh identity such as `cus_NffrFeUfNV2Hib`."""
    return prefix + "_" + "".join(secrets.choice(_ALPHABET) for _ in range(length))
