"""How much a request counts, as it is written under `quantity`."""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator, model_validator

from otel_usageflow.config.types import ConfigModel, Duration
from otel_usageflow.policy.expressions.expression import quantity
from otel_usageflow.policy.fields import FixedQuantity, Name, Names, fixed_quantity
from otel_usageflow.policy.spellings import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, TOTAL, UNCACHED, current
from otel_usageflow.policy.tokens import CACHE_KINDS

TRACE_WAIT: Final = timedelta(seconds=5)
"""How long spans of a request's trace are waited for, unless something else is written."""
_LONGEST_WAIT: Final = timedelta(hours=1)


def _expression(value: str) -> str:
    quantity(value)
    return value


def _origin(value: Any) -> Any:
    if value != "trace":
        raise ValueError(
            f"{value!r} is not known; there is `from: trace`, and without `from` the request's own span counts"
        )
    return value


def _wait(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= _LONGEST_WAIT:
        raise ValueError("must be from 0s to 1h; later spans are billed all the same, as usage of their own")
    return value


TraceWait = Annotated[Duration, AfterValidator(_wait)]
"""How long a request waits for the spans of its trace."""


_CACHED: Final = (UNCACHED, CACHE_READ, CACHE_WRITE)
_WHOLES: Final = (
    *((TOTAL, part) for part in (INPUT, OUTPUT, *_CACHED)),
    *((INPUT, part) for part in _CACHED),
)
"""What has another in it, as `policy/tokens.py` reads them."""


class QuantityConfig(ConfigModel):
    """A quantity taken from one attribute, summed over several, or worked out."""

    attribute: Name | None = Field(default=None, description="the attribute that holds the quantity")
    attributes: Names | None = Field(default=None, description="attributes that are summed")
    expression: Annotated[str, AfterValidator(_expression)] | None = Field(
        default=None,
        description="a number, in CEL over attributes, resource and span",
        examples=["(span.duration_ns + 59999999999) / 60000000000"],
    )
    from_: Annotated[Literal["trace"], BeforeValidator(_origin)] | None = Field(
        default=None, alias="from", description="trace: sum over all spans of the request's local trace"
    )
    scope: Names | None = Field(
        default=None, description="from: trace only: count only spans of these instrumentation scopes"
    )
    input_excludes_cache: Names | None = Field(
        default=None,
        description="providers of whose spans the input tokens leave out those of the cache, so that they are added",
        examples=["anthropic"],
    )

    @model_validator(mode="after")
    def _one(self) -> "QuantityConfig":
        if self.from_ is not None and self.expression is not None:
            raise ValueError(
                "from: trace sums attributes of many spans, and an expression sees one; write attributes: [KEY, ...]"
            )
        if self.from_ is not None and not self.keys:
            raise ValueError("from: trace needs attributes: [KEY, ...], the attributes that are summed")
        if sum(way is not None for way in (self.attribute, self.attributes, self.expression)) != 1:
            raise ValueError("write either attribute: KEY, attributes: [KEY, ...] or expression: CEL")
        if self.scope is not None and self.from_ is None:
            raise ValueError("scope narrows from: trace; to narrow the requests, write match: {scope: NAME}")
        if self.input_excludes_cache is not None and not any(current(key) in CACHE_KINDS for key in self.keys):
            raise ValueError(
                f"input_excludes_cache changes nothing here: it is about {', '.join(sorted(CACHE_KINDS))}"
            )
        self._check_twice()
        return self

    def _check_twice(self) -> None:
        """Refuse to add one thing up with itself."""
        listed: dict[str, str] = {}
        for key in self.keys:
            other = listed.setdefault(current(key), key)
            if self.keys.count(key) > 1:
                raise ValueError(f"{key} is listed twice, and would be added to itself")
            if other != key:
                raise ValueError(
                    f"{key} and {other} are two spellings of one thing; write one of them, and both are read"
                )
        for whole, part in _WHOLES:
            if whole in listed and part in listed:
                alone = "the total alone, or input and output" if whole == TOTAL else f"{listed[whole]} alone"
                raise ValueError(
                    f"{listed[whole]} has the tokens of {listed[part]} in it, which would be counted twice; "
                    f"write {alone}"
                )

    @property
    def keys(self) -> tuple[str, ...]:
        """The attributes that are summed."""
        return self.attributes or ((self.attribute,) if self.attribute is not None else ())


def _quantity(value: Any, _handler: Any) -> Any:
    if isinstance(value, QuantityConfig):
        return value
    return QuantityConfig.model_validate(value) if isinstance(value, dict) else fixed_quantity(value)


QuantityRule = Annotated[FixedQuantity | QuantityConfig, WrapValidator(_quantity)]
"""An int or Decimal, or where to find it."""
