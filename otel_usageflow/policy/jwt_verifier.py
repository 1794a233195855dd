"""From a token to its user: verified once, remembered by its digest, and judged at the time of each request."""

import hashlib
from dataclasses import dataclass
from typing import Final

from otel_usageflow.errors import Unavailable
from otel_usageflow.policy.json_value import claim_values
from otel_usageflow.policy.jwt_cache import RecentlyUsed
from otel_usageflow.policy.jwt_cause import Cause, Refused
from otel_usageflow.policy.jwt_claims import Rules, Term
from otel_usageflow.policy.jwt_key_set import KeySet
from otel_usageflow.policy.jwt_ring import KeyRing, short_name
from otel_usageflow.policy.jwt_token import MAX_LENGTH, read_token
from otel_usageflow.policy.text import user_text

GOOD_TOKENS: Final = 16_384
"""Verified tokens that are remembered, at about 400 bytes each; at most twice as many."""
BAD_TOKENS: Final = 2_048
"""Others. They are counted apart, so that forged ones do not push good ones out."""
_NEVER_LOADED: Final = 5.0
_NOT_FRESH: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Good:
    """A token with a good signature, of the right issuer, for the right audience."""

    user: str | None
    term: Term
    until_ns: int | None
    """When its key was withdrawn, if it was."""
    name: str
    """Of its key, as the ring knows it."""


@dataclass(frozen=True, slots=True)
class _Unverified:
    """A token that no key verifies, but newer keys might."""

    cause: Cause
    name: str
    """Of its key, as the ring knows it."""
    term: Term


_Found = _Good | _Unverified | Cause


class _Memory:
    """What is known about tokens under one set of keys."""

    __slots__ = ("bad", "good", "keys")

    def __init__(self, keys: KeySet) -> None:
        self.keys: Final = keys
        self.good: RecentlyUsed[_Found] = RecentlyUsed(GOOD_TOKENS)
        self.bad: RecentlyUsed[_Found] = RecentlyUsed(BAD_TOKENS)


class Verifier:
    """Reads the user from tokens. Keeps no token and no claim but the user; may be used by several threads.

    Args:
        ring: the keys.
        rules: what tokens must fulfil.
        claim: the claim that is the user; `org.tenant` is `tenant` within `org`.
        placeholders: texts that are no user.
    """

    def __init__(self, ring: KeyRing, rules: Rules, claim: str, placeholders: frozenset[str]) -> None:
        self._ring = ring
        self._rules = rules
        self._steps = claim.split(".")
        self._placeholders = placeholders
        self._memory = _Memory(ring.keys)

    def user(self, token: str, at_ns: int) -> str | Cause:
        """The user, or why there is none.

        Args:
            token: in compact form.
            at_ns: when the API judged it, in nanoseconds since 1970.

        Raises:
            Unavailable: it cannot be judged yet, because keys have to be loaded first.
        """
        if len(token) > MAX_LENGTH:
            return Cause.TOO_LONG
        keys = self._ring.keys
        found = self._find(token, keys)
        if isinstance(found, Cause):
            return found
        objection = found.term.objection(at_ns / 1e9, self._rules.leeway)
        if isinstance(found, _Unverified):
            if objection is None and not self._ring.settled(keys, found.name):
                raise self._not_yet()
            return found.cause if self._ring.loaded or objection is None else objection
        if objection is not None:
            return objection
        if found.until_ns is not None and at_ns > found.until_ns:
            if not self._ring.settled(keys, found.name):
                raise self._not_yet()  # what is gone may be back
            return Cause.WITHDRAWN_KEY
        return found.user if found.user is not None else Cause.NO_CLAIM

    def _find(self, token: str, keys: KeySet) -> _Found:
        memory = self._memory
        if memory.keys is not keys:
            memory = self._memory = _Memory(keys)
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = memory.good.get(digest) or memory.bad.get(digest)
        if found is None:
            try:
                found = self._examine(token, keys)
            except Refused as refused:
                found = refused.cause
            (memory.good if isinstance(found, _Good) else memory.bad).put(digest, found)
        return found

    def _examine(self, token: str, keys: KeySet) -> _Good | _Unverified:
        """All that can be said about a token without a time; what needs no key comes first.

        Raises:
            Refused: whatever the keys are.
        """
        parts = read_token(token)
        if parts.algorithm not in self._ring.algorithms:
            raise Refused(Cause.ALGORITHM)
        term = self._rules.check(parts.claims)
        usable = [one for one in keys.for_token(parts.kid) if one.key.allows(parts.algorithm)]
        for one in usable:
            if one.key.verifies(parts.algorithm, parts.signed, parts.signature):
                user = user_text(claim_values(parts.claims, self._steps), self._placeholders)
                return _Good(user, term, one.until_ns, short_name(parts.kid))
        if not usable and keys.has(parts.kid):
            raise Refused(Cause.ALGORITHM)
        return _Unverified(Cause.SIGNATURE if usable else Cause.UNKNOWN_KEY, short_name(parts.kid), term)

    def _not_yet(self) -> Unavailable:
        if not self._ring.loaded:
            return Unavailable(
                "tokens cannot be verified yet: their keys could not be loaded; the log of otel-usageflow says why",
                _NEVER_LOADED,
            )
        return Unavailable("a token is signed by a key that is not known yet; keys are loaded again", _NOT_FRESH)
