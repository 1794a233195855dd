"""The receiver `otlp`: OpenTelemetry traces over gRPC and HTTP."""

from otel_usageflow.component import Factory, Kind
from otel_usageflow.receivers.otlp.config import REFERENCES, OtlpConfig
from otel_usageflow.receivers.otlp.receiver import OtlpReceiver

FACTORY = Factory(kind=Kind.RECEIVER, name="otlp", config=OtlpConfig, build=OtlpReceiver, references=REFERENCES)
