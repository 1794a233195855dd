"""Customers by the million: those that differ by a number only are one rule, and made when they are asked for."""

import dataclasses
import secrets
import string
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from otel_usageflow.testing.stripe.customer import Customer

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PLACE = {letter: place for place, letter in enumerate(_ALPHABET)}
_DIGITS = 8
_ALL = 62**_DIGITS
_FACTOR = 98_765_432_109_877  # without a common factor with 62, so that every number has an identity of its own
_INVERSE = pow(_FACTOR, -1, _ALL)


@dataclasses.dataclass(slots=True, eq=False)
class Bulk:
    """Many customers, each with one metadata field.

    Args:
        first: place of the first of them among all customers.
        value: with `{}`, where the number of the customer (from 0) goes; or a value for each.
        created: of the first one, in unix seconds.
        spread: seconds over which their creation is spread, evenly.
        added: when search may begin to see them, by the double's clock.
        mark: begins their ids.
    """

    first: int
    count: int
    field: str
    value: str | Sequence[str]
    created: int
    spread: int
    livemode: bool
    added: float
    mark: str = dataclasses.field(default_factory=lambda: "".join(secrets.choice(_ALPHABET) for _ in range(6)))
    _index: dict[str, list[int]] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, str) and self.value.count("{}") != 1:
            raise ValueError(f"{self.value!r} must have `{{}}` once, for the number of the customer")
        if not isinstance(self.value, str) and len(self.value) != self.count:
            raise ValueError(f"there are {len(self.value)} values for {self.count} customers")

    def id_of(self, number: int) -> str:
        """The id of a customer, by its number from 0."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        left, letters = number * _FACTOR % _ALL, []
        for _ in range(_DIGITS):
            left, digit = divmod(left, 62)
            letters.append(_ALPHABET[digit])
        return f"cus_{self.mark}{''.join(letters)}"

    def number_of(self, identity: str) -> int | None:
        """The number of a customer, by its id; None if it is none of these."""
        digits = [_PLACE.get(letter) for letter in reversed(identity[10:])]
        if len(digits) != _DIGITS or not identity.startswith(f"cus_{self.mark}"):
            return None
        value = 0
        for digit in digits:
            if digit is None:
                return None
            value = value * 62 + digit
        number = value * _INVERSE % _ALL
        return number if number < self.count else None

    def value_of(self, number: int) -> str:
        """The metadata value of a customer."""
        return self.value.replace("{}", str(number)) if isinstance(self.value, str) else self.value[number]

    def customer(self, number: int) -> Customer:
        """A customer as it was made."""
        return Customer(
            id=self.id_of(number),
            created=self.created + number * self.spread // max(self.count, 1),
            place=self.first + number,
            livemode=self.livemode,
            metadata={self.field: self.value_of(number)},
        )

    def holding(self, wanted: str) -> list[int]:
        """Places of those whose value is `wanted`, without regard to case."""
        if isinstance(self.value, str):
            before, _, after = self.value.casefold().partition("{}")
            middle = wanted[len(before) : len(wanted) - len(after)]
            if not middle.isdecimal() or self.value_of(int(middle)).casefold() != wanted:
                return []
            return [self.first + int(middle)] if int(middle) < self.count else []
        if self._index is None:
            self._index = {}
            for number, value in enumerate(self.value):
                self._index.setdefault(value.casefold(), []).append(self.first + number)
        return self._index.get(wanted, [])


class Roll(Sequence[Customer]):
    """All customers of one account, in the order of their creation, as they are now."""

    def __init__(self) -> None:
        self.bulks: list[Bulk] = []
        self.kept: dict[int, Customer] = {}
        """Those that stand for themselves: made one by one, or changed since."""
        self._by_id: dict[str, int] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Customer]:
        return (self[place] for place in range(self._length))

    @overload
    def __getitem__(self, place: int) -> Customer: ...
    @overload
    def __getitem__(self, place: slice) -> list[Customer]: ...
    def __getitem__(self, place: int | slice) -> Customer | list[Customer]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self._length))]
        kept = self.kept.get(place)
        if kept is not None:
            return kept
        bulk = self.bulk_at(place)
        if bulk is None:
            raise IndexError(place)
        return bulk.customer(place - bulk.first)

    def put(self, customer: Customer) -> None:
        """Add a customer, or the new state of one."""
        self.kept[customer.place] = customer
        self._by_id[customer.id] = customer.place
        self._length = max(self._length, customer.place + 1)

    def put_many(self, bulk: Bulk) -> None:
        """Add many at once, behind all there are."""
        self.bulks.append(bulk)
        self._length = max(self._length, bulk.first + bulk.count)

    def bulk_at(self, place: int) -> Bulk | None:
        """The bulk that a place belongs to."""
        before = bisect_right(self.bulks, place, key=lambda bulk: bulk.first)
        bulk = self.bulks[before - 1] if before else None
        return bulk if bulk is not None and bulk.first <= place < bulk.first + bulk.count else None

    def place_of(self, identity: str) -> int | None:
        """Where the customer with this id stands."""
        place = self._by_id.get(identity)
        if place is not None:
            return place
        for bulk in self.bulks:
            number = bulk.number_of(identity)
            if number is not None:
                return bulk.first + number
        return None

    def holding(self, key: str, wanted: str) -> list[int]:
        """Places of all that may have this metadata value, whatever its case; oldest first."""
        found = {place for bulk in self.bulks if bulk.field == key for place in bulk.holding(wanted)}
        return sorted(found.union(self.kept))
