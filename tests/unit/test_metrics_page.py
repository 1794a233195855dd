"""The page that Prometheus reads: what may stand on it, and in which forms."""

from collections.abc import Mapping
from typing import Literal

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from otel_usageflow.component import Measurement
from otel_usageflow.service.exposition import Page

ODD = 'a "quoted" \\ back\nslash'


def sample(
    name: str = "otel_usageflow_age_seconds",
    value: float = 1,
    kind: Literal["counter", "gauge"] = "gauge",
    **labels: str,
) -> Measurement:
    """A measurement of no importance."""
    return Measurement(name, kind, value, "What it is.", labels)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("otel_usageflow_sent", "counter"),  # the suffix is the convention
        ("otel_usageflow_age_total", "gauge"),
        ("usageflow_age_seconds", "gauge"),
        ("otel_usageflow_", "gauge"),
        ("otel_usageflow_Age", "gauge"),
        ("otel_usageflow_age-seconds", "gauge"),
    ],
)
def test_names_follow_the_conventions(name: str, kind: Literal["counter", "gauge"]) -> None:
    """A name that Prometheus would not take, or that lies about its kind, cannot be made."""
    with pytest.raises(ValueError, match="is no name for a"):
        sample(name, kind=kind)


def test_labels_have_names_of_prometheus() -> None:
    """A label's name is a word of small letters."""
    with pytest.raises(ValueError, match="'a-b' is no name for a label"):
        sample(**{"a-b": "x"})


@pytest.mark.parametrize(
    "second",
    [
        [sample(exporter="a")],
        [sample(exporter="b"), sample(exporter="b")],
        [sample("otel_usageflow_fine", exporter="b"), sample(account="b")],
    ],
)
def test_what_would_spoil_the_page_is_kept_off_it(second: list[Measurement]) -> None:
    """Prometheus reads all of a page or nothing: a doubled sample or other labels take their whole group off it."""
    page = Page()
    page.add([sample(exporter="a")])
    with pytest.raises(ValueError, match="otel_usageflow_age_seconds"):
        page.add(second)
    assert own(page, "") == {("otel_usageflow_age_seconds", (("exporter", "a"),)): 1}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("application/openmetrics-text;version=one", "text/plain; version=0.0.4"),
    ],
)
def test_both_formats_say_the_same(accept: str, content_type: str) -> None:
    """What was measured can be read back from either format, odd labels included, and the type says which it is."""
    page = Page()
    page.add([sample(value=2.5, exporter="a"), sample(value=0, exporter=ODD)])
    page.add([sample("otel_usageflow_sent_total", 3, "counter"), sample("otel_usageflow_build_info", version="1")])
    assert page.written(accept)[1].startswith(content_type)
    assert own(page, accept) == {
        ("otel_usageflow_age_seconds", (("exporter", "a"),)): 2.5,
        ("otel_usageflow_age_seconds", (("exporter", ODD),)): 0,
        ("otel_usageflow_sent_total", ()): 3,
        ("otel_usageflow_build_info", (("version", "1"),)): 1,
    }


def own(page: Page, accept: str) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a page that are ours, read with Prometheus' own parser for its format."""
    body, content_type = page.written(accept)
    parse = openmetrics if content_type.startswith("application/openmetrics") else plain
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in parse(body.decode())
        for one in family.samples
        if one.name.startswith("otel_usageflow_")
    }
