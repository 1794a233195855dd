"""Attributes read by hand are what the official messages say, in every form in which they can be written."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from span_builder import any_value

from otel_usageflow.model.attributes import OPAQUE, Wanted, decode, read

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 20_000),
    st.floats(allow_nan=False),
    st.text(max_size=200),
    st.binary(max_size=140),
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
KEYS = st.text(min_size=0, max_size=10) | st.sampled_from(["k" * 127, "k" * 128, "url.path"])


def official(value: AnyValue) -> Any:
    """What the official message holds, as plain Python."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [official(element) for element in value.array_value.values]
    return OPAQUE if kind == "kvlist_value" else getattr(value, kind)


@given(KEYS, VALUES)
def test_a_value_is_what_the_official_message_holds(key: str, value: Any) -> None:
    """Short forms are read by hand, all others by the parser: the same value either way, of the same type."""
    raw = KeyValue(key=key, value=any_value(value)).SerializeToString()
    found = Wanted([key]).find([raw])
    result = read(found, key)
    assert result == official(any_value(value))
    assert type(result) is type(value)


@given(KEYS, VALUES)
def test_the_order_of_fields_does_not_matter(key: str, value: Any) -> None:
    """An attribute whose value is written before its key is the same attribute."""
    backwards = KeyValue(value=any_value(value)).SerializeToString() + KeyValue(key=key).SerializeToString()
    assert read(Wanted([key]).find([backwards]), key) == official(any_value(value))


@given(st.lists(st.tuples(KEYS, VALUES), max_size=8), st.sets(KEYS, max_size=4))
def test_exactly_the_wanted_attributes_are_found(pairs: Any, wanted: set[str]) -> None:
    """Every wanted key that is there is found, and nothing else."""
    raws = [KeyValue(key=key, value=any_value(value)).SerializeToString() for key, value in pairs]
    assert Wanted(wanted).find(raws).keys() == wanted & {key for key, _ in pairs}


@given(KEYS, st.lists(VALUES, min_size=2, max_size=3))
def test_a_key_with_several_values_gives_all_of_them(key: str, values: list[Any]) -> None:
    """Nobody picks one of two values by accident: distinct ones come as a list."""
    raws = [KeyValue(key=key, value=any_value(value)).SerializeToString() for value in values]
    result = read(Wanted([key]).find(raws), key)
    if len(set(raws)) == 1:
        assert result == official(any_value(values[0]))
    else:
        distinct = dict.fromkeys(raws)
        flat: list[Any] = []
        for raw in distinct:
            value = decode(raw)
            flat.extend(value if isinstance(value, list) else [value])
        assert result == flat


@given(st.dictionaries(KEYS, st.text(max_size=3), max_size=3))
def test_maps_are_opaque(value: dict[str, str]) -> None:
    """A map has no plain form, at the top or in a list."""
    for wrapped, expected in ((value, OPAQUE), ([value], [OPAQUE])):
        raw = KeyValue(key="k", value=any_value(wrapped)).SerializeToString()
        assert decode(raw) == expected
