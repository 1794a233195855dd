"""What the JWT sources of one processor share: keys, what is known about tokens, and counts of those refused."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.policy.jwt_claims import Rules
from otel_usageflow.policy.jwt_config import Verify
from otel_usageflow.policy.jwt_jwks import read_key_set
from otel_usageflow.policy.jwt_keys import VerificationKey, key_file, public_key, secret_key
from otel_usageflow.policy.jwt_ring import KeyRing
from otel_usageflow.policy.jwt_verifier import Verifier

_Read = tuple[Sequence[VerificationKey], Sequence[str]]
_Place = tuple[object, object]
"""Where keys come from, and the algorithms that they are for."""


class Trust:
    """Policies that verify alike share one key ring and one memory, so that a token is verified once.

    Args:
        fixed: nobody will load keys again, so tokens are judged by those of the start for good.
        before: that of the policies which these will follow. What both ask for is shared: keys that were loaded are
            not lost with a change of policies, and counts go on.
    """

    def __init__(self, *, fixed: bool = False, before: "Trust | None" = None) -> None:
        self._fixed = fixed
        self.rings: list[KeyRing] = []
        """Those that have to be kept up to date. Files are read; of addresses, nothing is known yet."""
        self._by_place: dict[_Place, KeyRing] = {}
        self._verifiers: dict[object, Verifier] = {}
        self._rings_before: Mapping[_Place, KeyRing] = {} if before is None else before._by_place
        self._verifiers_before: Mapping[object, Verifier] = {} if before is None else before._verifiers
        self._expected: dict[str, None] = {}
        self._refused: Counter[tuple[str, Cause]] = Counter() if before is None else before._refused
        self._counting: threading.Lock = threading.Lock() if before is None else before._counting

    def verifier(self, verify: Verify, claim: str, placeholders: frozenset[str]) -> Verifier:
        """What reads this claim.

        Raises:
            ValueError: a key file cannot be used; the message says which and why.
        """
        known = (verify, claim, placeholders)
        if known not in self._verifiers:
            rules = Rules(
                None if verify.issuer is None else frozenset(verify.issuer),
                None if verify.audience is None else frozenset(verify.audience),
                verify.leeway.total_seconds(),
            )
            ring = self._ring(verify)
            self._verifiers[known] = self._verifiers_before.get(known) or Verifier(ring, rules, claim, placeholders)
        return self._verifiers[known]

    def part(self) -> None:
        """Hold on to nothing of the policies before these; what is shared is."""
        self._rings_before, self._verifiers_before = {}, {}

    def expect(self, policy: str) -> None:
        """Count the refused tokens of this policy from 0."""
        self._expected[policy] = None

    def refuse(self, policy: str, cause: Cause) -> None:
        """Count a refused token."""
        with self._counting:
            self._refused[policy, cause] += 1

    @property
    def refused(self) -> Mapping[tuple[str, Cause], int]:
        """(policy, cause) -> tokens so far."""
        none = dict.fromkeys(((policy, cause) for policy in self._expected for cause in Cause), 0)
        with self._counting:
            return none | self._refused

    def _ring(self, verify: Verify) -> KeyRing:
        source = (verify.jwks_url, verify.jwks_file, verify.public_key_file, verify.secret)
        place: _Place = (source, verify.algorithms)
        if place not in self._by_place:
            ring = self._rings_before.get(place) or self._of_known_keys(_ring(verify), source)
            self._by_place[place] = ring
            if verify.secret is None:
                self.rings.append(ring)
            if verify.secret is not None or self._fixed:
                ring.keep()
        return self._by_place[place]

    def _of_known_keys(self, ring: KeyRing, source: object) -> KeyRing:
        """Let a ring that is read otherwise than before, as for other algorithms, begin with what its place held."""
        for (other, _), before in self._rings_before.items():
            if other == source and before.last is not None and not ring.loaded:
                with contextlib.suppress(ValueError):  # none of these keys is for the new algorithms
                    ring.take(*before.last)
        return ring


def _ring(verify: Verify) -> KeyRing:
    possible = verify.algorithms or verify.possible
    if verify.secret is not None:
        key = secret_key(verify.secret.get_secret_value(), verify.algorithms)
        ring = KeyRing("secret", possible, lambda _data: ([key], ()), remote=False)
        ring.take(b"", 0)
        return ring
    if verify.jwks_url is not None:
        return KeyRing(verify.jwks_url, possible, _key_set_reader(verify.jwks_url, verify, public=True), remote=True)
    if verify.jwks_file is not None:
        place, read = verify.jwks_file, _key_set_reader(verify.jwks_file, verify, public=False)
    else:
        place = verify.public_key_file or ""

        def read(data: bytes) -> _Read:
            return [public_key(data, place, verify.algorithms)], ()

    ring = KeyRing(place, possible, read, remote=False)
    ring.take(key_file(place), 0)
    return ring


def _key_set_reader(place: str, verify: Verify, *, public: bool) -> Callable[[bytes], _Read]:
    def read(data: bytes) -> _Read:
        found = read_key_set(data, place, verify.algorithms, public=public)
        return found.keys, found.ignored

    return read
