"""Billing from within a Python app, in three lines:

    import otel_usageflow.sdk as usageflow

    app = usageflow.install(app, endpoint="http://127.0.0.1:4318", user=usageflow.header("x-account-id"))

Needs `pip install 'otel-usageflow[sdk]'`. See docs/sdk.md.
"""

try:
    import opentelemetry.sdk.trace as _needed  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError("otel_usageflow.sdk needs the OpenTelemetry SDK: pip install 'otel-usageflow[sdk]'") from error

from otel_usageflow.sdk.asgi import AsgiMiddleware
from otel_usageflow.sdk.counts import Stats
from otel_usageflow.sdk.installation import flush, install, shutdown, stats
from otel_usageflow.sdk.processor import BillingSpanProcessor
from otel_usageflow.sdk.request import Request
from otel_usageflow.sdk.sampler import BillingSampler
from otel_usageflow.sdk.sender import Limits
from otel_usageflow.sdk.user import api_key, cookie, header, jwt, query
from otel_usageflow.sdk.visit import add, set_user
from otel_usageflow.sdk.wsgi import WsgiMiddleware

__all__ = [
    "AsgiMiddleware",
    "BillingSampler",
    "BillingSpanProcessor",
    "Limits",
    "Request",
    "Stats",
    "WsgiMiddleware",
    "add",
    "api_key",
    "cookie",
    "flush",
    "header",
    "install",
    "jwt",
    "query",
    "set_user",
    "shutdown",
    "stats",
]
