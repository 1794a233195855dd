"""The budget of requests in flight: never exceeded, kept for what is still to come, and not by clients that fall
silent."""

from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.errors import Unavailable
from otel_usageflow.receivers.otlp.admission import BESIDE, PATIENCE, Admission, Lease

MIB = 1024 * 1024


def filled(admission: Admission) -> list[Lease]:
    """Expect requests until one is refused."""
    expected: list[Lease] = []
    while True:
        lease = admission.lease()
        try:
            lease.expect()
        except Unavailable:
            return expected
        expected.append(lease)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2 * MIB)), max_size=40))
def test_admission_never_exceeds_its_limit_but_for_one_alone(steps: list[tuple[int, int]]) -> None:
    """The bytes held are what was granted; only a request that is alone may be larger than the limit."""
    admission = Admission(2 * MIB)
    leases = [admission.lease() for _ in range(4)]
    held = [0] * 4
    for which, size in steps:
        others = sum(held) - held[which]
        try:
            leases[which].resize(size)
        except Unavailable:
            assert others + size + BESIDE > 2 * MIB
            assert others > 0
        else:
            held[which] = size + BESIDE
        assert admission.in_flight == sum(held)
        assert admission.in_flight <= 2 * MIB or sum(each > 0 for each in held) == 1
    for lease in leases:
        lease.__exit__(None, None, None)
    assert admission.in_flight == 0


@given(st.integers(1, 64 * MIB))
def test_what_is_not_read_yet_counts_as_requests_did_of_late(size: int) -> None:
    """Requests that are expected are refused before they are read, once as many as fit are on their way."""
    admission = Admission(64 * MIB)
    for _ in range(200):
        with admission.lease() as lease:
            lease.expect()
            lease.arrived(size)
    expected = filled(admission)
    fitting = 64 * MIB // (size + BESIDE)
    assert fitting <= len(expected) <= max(1, fitting * 1.01)
    assert admission.in_flight <= max(64 * MIB, size + BESIDE)


def test_who_falls_silent_keeps_nobody_out() -> None:
    """A request that does not arrive counts for a while only; what has arrived counts until it is answered."""
    now = 0.0
    admission = Admission(4 * MIB, lambda: now)
    working = admission.lease()
    working.expect()
    working.arrived(2 * MIB)
    silent = filled(admission)
    assert silent
    now = PATIENCE
    with admission.lease() as late:
        late.expect()
        late.arrived(MIB)
        assert admission.in_flight == 3 * MIB + 2 * BESIDE
    for lease in (working, *silent):
        lease.__exit__(None, None, None)
    assert admission.in_flight == 0
    assert not admission.awaited
