"""The watch over what arrives: lots of trace ids, losses of SDKs, and its bounds; what is said, and how often."""

import random
import threading
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from otel_usageflow.model.arrivals import Arrivals
from otel_usageflow.policy.completeness import Evidence, Finding, findings
from otel_usageflow.policy.trace_ids import MOST
from otel_usageflow.policy.twins import Twins
from otel_usageflow.processors.usage_policy.arrival_report import REPEAT, ArrivalReport
from otel_usageflow.processors.usage_policy.arrival_watch import (
    MOST_PROCESSES,
    MOST_SCOPES,
    MOST_SERVICES,
    OTHERS,
    ArrivalWatch,
)
from otel_usageflow.processors.usage_policy.measurements import arrivals
from otel_usageflow.service.exposition import Page

CHANCE = random.Random(7)


def traces(count: int, ratio: float = 1.0) -> Arrivals:
    """SERVER spans of so many traces, as a ratio sampler keeps them."""
    bound = int(ratio * 2**64)
    ids = {CHANCE.randbytes(8) + CHANCE.randrange(bound).to_bytes(8, "big") for _ in range(count)}
    return Arrivals(spans=count, begun=ids)


def told(watch: ArrivalWatch) -> list[tuple[str, Evidence]]:
    return [(finding.service, finding.evidence) for finding in watch.tell(adjusted=False)]


def test_a_sampled_service_is_told_again_while_it_has_traffic() -> None:
    """The verdict stays until a full lot says otherwise; a service without traffic is not spoken of."""
    watch = ArrivalWatch()
    watch.take({"shop": traces(30, 0.1), "desk": traces(30)})
    assert told(watch) == [("shop", Evidence.TRACE_IDS)]
    assert told(watch) == []
    watch.take({"shop": traces(1, 0.1)})
    assert told(watch) == [("shop", Evidence.TRACE_IDS)]
    assert 0.05 < watch.shares()["shop"] <= 0.1
    assert set(watch.shares()) == {"shop"}


def test_a_sampler_that_is_switched_on_or_off_shows() -> None:
    """The lot that is being filled may hold both; the next full one says what holds now."""
    watch = ArrivalWatch()
    watch.take({"shop": traces(MOST // 2)})
    assert told(watch) == []
    for _ in range(2):
        watch.take({"shop": traces(MOST, 0.5)})
        last = told(watch)
    assert last == [("shop", Evidence.TRACE_IDS)]
    for _ in range(2):
        watch.take({"shop": traces(MOST)})
        last = told(watch)
    assert last == []
    assert watch.shares() == {}


def test_callers_that_sample_are_told_apart() -> None:
    """Where roots all arrive and the sampled requests of callers only, the ids of the latter show it."""
    watch = ArrivalWatch()
    watch.take({"shop": Arrivals(spans=130, begun=traces(100).begun, continued=traces(30, 0.1).begun)})
    (finding,) = watch.tell(adjusted=False)
    assert finding.evidence is Evidence.CALLERS
    assert "continue the traces of callers look sampled" in finding.text
    assert watch.shares()["shop"] == finding.share


def test_spans_that_come_again_are_no_evidence() -> None:
    """A batch that is sent again and again has the same few trace ids, which never look sampled by themselves."""
    watch = ArrivalWatch()
    same = traces(8)
    for _ in range(200):
        watch.take({"shop": same})
    assert told(watch) == []


def test_weights_and_doubts_are_told_with_their_numbers() -> None:
    """What spans say of themselves, since it was last told."""
    watch = ArrivalWatch()
    watch.take({"shop": Arrivals(spans=100, weighed=100, several=100, stands_for=1000.0)})
    watch.take({"shop": Arrivals(spans=0, doubts=traces(0).doubts)})
    (finding,) = watch.tell(adjusted=False)
    assert finding.share == 0.1
    assert finding.text.startswith(
        "100 of 100 requests of shop stand for several (ot=th in tracestate): about 10 % of"
    )
    assert finding.text.endswith("; each counts once")
    odd = Arrivals(spans=2)
    odd.doubts["malformed"] = 2
    watch.take({"shop": odd})
    (finding,) = watch.tell(adjusted=False)
    assert finding.evidence is Evidence.DOUBTS
    assert "2 requests of shop" in finding.text
    assert "(2 malformed)" in finding.text
    assert (watch.several, watch.doubts["malformed"]) == (100, 2)


def test_what_sdks_gave_up_is_summed_over_processes() -> None:
    """Each process tells a running total, which may arrive twice or late; only what is more counts."""
    watch = ArrivalWatch()
    for process, lost in [("a", 0), ("a", 5), ("b", 2), ("a", 5), ("a", 3), ("b", 4)]:
        watch.take({"shop": Arrivals(spans=1, lost={process: lost})})
    assert watch.lost == 9
    (finding,) = watch.tell(adjusted=False)
    assert finding.evidence is Evidence.SDK
    assert "had to give up 9 requests" in finding.text
    watch.take({"shop": Arrivals(spans=1, lost={"a": 5})})
    assert told(watch) == []


def test_memory_is_bounded() -> None:
    """Services beyond the most are one, whose trace ids are not judged; long silent processes are forgotten."""
    watch = ArrivalWatch()
    for number in range(MOST_SERVICES + 50):
        watch.take({f"service-{number:04}": Arrivals(spans=1, lost={"p": 1})})
    watch.take({"another": traces(100, 0.1)})
    names = {service for service, _ in told(watch)}
    assert len(names) == MOST_SERVICES + 1
    assert OTHERS in names
    assert watch.shares() == {}
    watch.take({"service-0000": Arrivals(spans=1, lost={f"p{n}": 1 for n in range(MOST_PROCESSES * 2)})})
    assert watch.lost == MOST_SERVICES + 1 + MOST_PROCESSES * 2


def test_names_of_services_are_made_fit_to_be_shown() -> None:
    """A client may call its service anything; the page of metrics can be written all the same."""
    watch = ArrivalWatch()
    for name in ('a"b\n\\', "", "\udcff", "x" * 5_000):
        watch.take({name: Arrivals(spans=1, weighed=1, several=1, stands_for=4.0)})
    page = Page()
    page.add(list(arrivals("usage_policy", watch)))
    samples = [
        one for family in text_string_to_metric_families(page.written("")[0].decode()) for one in family.samples
    ]
    shown = {one.labels["service"] for one in samples if "service" in one.labels}
    assert shown == {'a"b\n\\', "", "?", "x" * 200}
    assert len(watch.tell(adjusted=False)) == 4


def test_several_threads_may_add() -> None:
    """Nothing is lost when batches are judged in threads while somebody asks."""
    watch = ArrivalWatch()
    lots = [[traces(5, 0.1) for _ in range(100)] for _ in range(4)]

    def add(lot: list[Arrivals]) -> None:
        for one in lot:
            watch.take({"shop": one})

    threads = [threading.Thread(target=add, args=(lot,)) for lot in lots]
    for thread in threads:
        thread.start()
    found: list[Finding] = []
    while any(thread.is_alive() for thread in threads):
        found += watch.tell(adjusted=False)
    found += watch.tell(adjusted=False)
    assert {finding.evidence for finding in found} == {Evidence.TRACE_IDS}


async def report_of(watch: ArrivalWatch, *, adjusted: bool = False) -> list[tuple[str, str]]:
    """(level, event) of what one last look writes."""
    with capture_logs() as lines:
        await ArrivalReport(watch, 60.0, lambda: adjusted).stop()
    return [(line["log_level"], line["event"]) for line in lines]


async def test_requests_that_are_missing_are_a_warning() -> None:
    """One line with the service, how much arrives, how that was seen, and what to do."""
    watch = ArrivalWatch()
    watch.take({"shop": traces(60, 0.1)})
    with capture_logs() as lines:
        await ArrivalReport(watch, 60.0, lambda: False).stop()
    (line,) = lines
    assert (line["log_level"], line["event"], line["service"]) == ("warning", "requests_missing", "shop")
    assert line["evidence"] == "trace_ids"
    assert line["arriving"] in {"9.8 %", "9.9 %", "10 %", "9.7 %", "9.6 %", "9.5 %"}
    assert "AlwaysOn" in line["remedy"]


async def test_what_is_counted_by_weight_is_no_warning() -> None:
    """Under adjust, requests that are counted by weight are an estimate, and known to be one."""
    watch = ArrivalWatch()
    watch.take({"shop": Arrivals(spans=10, weighed=10, several=10, stands_for=100.0)})
    assert await report_of(watch, adjusted=True) == [("info", "requests_weighed")]
    watch.take({"shop": Arrivals(spans=10, weighed=10, several=10, stands_for=100.0)})
    assert await report_of(watch) == [("warning", "requests_missing")]


async def test_the_same_is_said_now_and_then() -> None:
    """At once when it shows or changes, and every tenth time while it stays."""
    watch = ArrivalWatch()
    report = ArrivalReport(watch, 60.0, lambda: False)
    lines: list[int] = []
    for number in range(2 * REPEAT):
        several = 1000 if number < 2 * REPEAT - 3 else 500
        watch.take({"shop": Arrivals(spans=100, weighed=100, several=100, stands_for=float(several))})
        with capture_logs() as written:
            await report.stop()
        lines += [number] * len(written)
    assert lines == [0, REPEAT, 2 * REPEAT - 3]


def test_the_same_can_be_asked_of_recorded_spans() -> None:
    """A pure function of what was seen, for preview, discover and whoever else wants to know."""
    mixed = Arrivals(spans=20, weighed=10, several=10, stands_for=40.0, begun=traces(30, 0.1).begun)
    told = list(findings({"b": mixed, "a": traces(30, 0.1), "c": traces(100)}))
    assert [(one.service, one.evidence) for one in told] == [
        ("a", Evidence.TRACE_IDS),
        ("b", Evidence.WEIGHTS),
        ("b", Evidence.TRACE_IDS),
    ]
    assert "may be those of callers" in told[1].text
    assert told[1].share == 0.4
    assert "no service.name" in next(iter(findings({"": traces(30, 0.1)}))).text


def test_two_instrumentations_of_the_same_requests_show() -> None:
    """Equal counts of two scopes of one service are suspected; of one scope, or of unequal ones, nothing is said."""
    watch = ArrivalWatch()
    watch.take(
        {
            "shop": Arrivals(entered=Counter({"flask": 60, "wsgi": 59, "grpc": 4})),
            "desk": Arrivals(entered=Counter({"flask": 60})),
            "till": Arrivals(entered=Counter({"flask": 60, "grpc": 50})),
            "new": Arrivals(entered=Counter({"flask": 9, "wsgi": 9})),
        }
    )
    assert watch.twins() == {"shop": Twins(("flask", "wsgi"), 59)}
    (told,) = [one for one in arrivals("p", watch) if one.name == "otel_usageflow_perhaps_doubled_requests"]
    assert (told.value, told.labels["scopes"]) == (59, "flask and wsgi")


def test_what_was_put_right_shows_soon() -> None:
    """Older counts weigh less and less, and the scopes that anybody can invent are bounded."""
    watch = ArrivalWatch()
    watch.take({"shop": Arrivals(entered=Counter({"flask": 5_000, "wsgi": 5_000}))})
    assert watch.twins()
    for _ in range(3):
        watch.take({"shop": Arrivals(entered=Counter({"flask": 5_000}))})
    assert watch.twins() == {}
    watch.take({"desk": Arrivals(entered=Counter({f"scope-{number}": 100 for number in range(1_000)}))})
    assert len(watch._services["desk"].entered) == MOST_SCOPES
