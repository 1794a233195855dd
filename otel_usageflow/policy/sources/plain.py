"""The sources that are told by one text, so that a template can name them: `{header:x-org}`."""

from typing import Final, get_args

from otel_usageflow.policy.sources.baggage import BaggageSource
from otel_usageflow.policy.sources.basic_auth import BasicAuthSource
from otel_usageflow.policy.sources.body import BodySource
from otel_usageflow.policy.sources.client_certificate import ClientCertificateSource
from otel_usageflow.policy.sources.cookie import CookieSource
from otel_usageflow.policy.sources.header import HeaderSource
from otel_usageflow.policy.sources.metadata import MetadataSource
from otel_usageflow.policy.sources.path import PathSource
from otel_usageflow.policy.sources.query import QuerySource
from otel_usageflow.policy.sources.source import Source

PlainSource = (
    HeaderSource
    | QuerySource
    | PathSource
    | BodySource
    | MetadataSource
    | CookieSource
    | BaggageSource
    | BasicAuthSource
    | ClientCertificateSource
)

PLAIN: Final[dict[str, type[Source]]] = {source.key(): source for source in get_args(PlainSource)}
"""The key under `user` -> its source."""
