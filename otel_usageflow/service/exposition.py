"""From measurements to the text that Prometheus reads: the rules for a page, and its formats."""

from collections.abc import Iterator, Sequence

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_usageflow.component import Measurement

_Sample = tuple[tuple[str, str], ...]


class Page(Collector):
    """The metrics of one moment, from whoever has some."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[_Sample, Measurement]] = {}

    def add(self, measurements: Sequence[Measurement]) -> None:
        """Put all of them on the page, or none.

        Raises:
            ValueError: a sample is there already, or a metric has other labels there. Prometheus would not read
                any of the page.
        """
        added: dict[str, dict[_Sample, Measurement]] = {}
        for one in measurements:
            sample = tuple(sorted(one.labels.items()))
            there = self._metrics.get(one.name, {})
            others = added.setdefault(one.name, {})
            if sample in there or sample in others:
                raise ValueError(f"{one.name} with the labels {dict(sample)} is there twice")
            first = next(iter(there or others), sample)
            if [name for name, _ in first] != [name for name, _ in sample]:
                raise ValueError(f"{one.name} has the labels {dict(sample)} here and {dict(first)} elsewhere")
            others[sample] = one
        for name, samples in added.items():
            self._metrics.setdefault(name, {}).update(samples)

    def collect(self) -> Iterator[Metric]:
        """The metrics by name, those of this process in general last."""
        for _name, samples in sorted(self._metrics.items()):
            yield _family(samples)
        # Memory, processor time, open files: under the names that every Prometheus client gives them.
        yield from ProcessCollector(registry=None).collect()

    def written(self, accept: str) -> tuple[bytes, str]:
        """The page, and its content type: OpenMetrics if the header `Accept` asks for it, else Prometheus' text."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the version that it asks for is no number
            encode, content_type = choose_encoder("")
        return encode(self), content_type


def _family(samples: dict[_Sample, Measurement]) -> Metric:
    first = next(iter(samples.values()))
    labels = [name for name, _ in next(iter(samples))]
    family: CounterMetricFamily | GaugeMetricFamily
    if first.kind == "counter":
        family = CounterMetricFamily(first.name, first.help, labels=labels)
    else:
        family = GaugeMetricFamily(first.name, first.help, labels=labels)
    for sample, measurement in samples.items():
        family.add_metric([value for _, value in sample], measurement.value)
    return family
