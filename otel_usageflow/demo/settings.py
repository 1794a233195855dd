"""The environment that an operator would give the sample API."""


def api_environment(service: str) -> dict[str, str]:
    """Settings of the OpenTelemetry SDK and instrumentation; `service` is the URL of otel-usageflow."""
    return {
        "OTEL_SERVICE_NAME": "sample-api",
        "OTEL_EXPORTER_OTLP_ENDPOINT": service,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-account-id,x-api-key,authorization",
        "OTEL_BSP_SCHEDULE_DELAY": "500",  # milliseconds; a demo should not wait the usual five seconds
    }
