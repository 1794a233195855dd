"""What discover keeps has a bound, whatever comes and for however long: `--live` has no end of its own."""

import gc
import tracemalloc

import pytest
from span_builder import payload, span

from otel_usageflow.policy.discovery import endpoints, facts, survey
from otel_usageflow.policy.discovery.count import OTHERS
from otel_usageflow.policy.discovery.doubles import Doubles
from otel_usageflow.policy.discovery.remarks import excluded_scopes
from otel_usageflow.policy.discovery.starter import starter
from otel_usageflow.policy.discovery.survey import Survey

LIMITS = {"MOST_PLACES": 30, "MOST_NAMES": 5, "MOST_REMEMBERED": 50, "MOST_WAITING": 20, "MOST_WAITING_FACTS": 100}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches soon."""
    for name, most in LIMITS.items():
        monkeypatch.setattr(survey, name, most)
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 20)
    monkeypatch.setattr(survey, "Doubles", lambda: Doubles(50))
    monkeypatch.setattr(facts, "_MOST_USES", 100)


def absurd(number: int) -> bytes:
    """A request in which everything is new."""
    word = "".join(chr(97 + number // 26**place % 26) for place in range(4))
    attributes = {
        "http.request.method": "GET",
        "url.path": f"/{word}/by/{word}/{word[::-1]}",
        "url.query": f"{word}=1&account={word}",
        "http.response.status_code": 100 + number % 500,
        "http.request.header.cookie": [f"{word}=1; user={word}"],
        **{f"my.{word}.{index}": word * 50 for index in range(10)},
    }
    made = span(attributes, number=number + 1, parent=number + 2**60, flags=0, start=number, end=number + 5)
    made.trace_id = (number + 1).to_bytes(16, "big")
    return payload(made, service=f"service {word}", scope=f"scope {word}", resource={f"tenant.id.{word}": word})


@pytest.mark.usefixtures("small")
def test_memory_levels_off() -> None:
    """Twice as many requests, all of them new in everything, take no more memory."""
    kept = Survey(values=True, widest=5)
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for number in range(2_400):
            kept.add(absurd(number))
            if number in {1_199, 2_399}:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] * 1.1
    found = kept.finish()
    assert found.requests == 2_400
    assert len(found.scopes) <= 2 * (LIMITS["MOST_NAMES"] + 1)
    assert len(starter(found)) < 20_000


@pytest.mark.usefixtures("small")
def test_names_that_stand_for_many_are_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """`(others)` is nobody's service and scope: no policy matches by it, and it is not excluded."""
    monkeypatch.setattr(survey, "MOST_NAMES", 1)
    kept = Survey()
    for number in range(4):
        for service, scope in (("a", "known"), ("b", f"new {number}"), ("c", f"newer {number}")):
            made = span({"http.request.method": "GET", "url.path": "/a", "http.response.status_code": 200})
            made.trace_id = (number + 1).to_bytes(16, "big")
            kept.add(payload(made, service=service, scope=scope))
    found = kept.finish()
    assert {service for one in found.endpoints.values() for service in one.services} == {"a", OTHERS}
    assert OTHERS not in excluded_scopes(found)
    assert f'service: "{OTHERS}"' not in starter(found)
