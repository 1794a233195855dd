package main

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

// An outage of this length loses nothing, as long as the queue holds what is served meanwhile.
const outage = time.Hour

// telemetry sets up OpenTelemetry so that every request has a span, and every span arrives.
func telemetry(ctx context.Context) (*trace.TracerProvider, error) {
	exporter, err := otlptracegrpc.New(ctx, // gRPC: over HTTP, Go gives up as soon as a connection is refused
		otlptracegrpc.WithTimeout(outage),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 10 * time.Second, MaxElapsedTime: outage,
		}),
	)
	if err != nil {
		return nil, err
	}
	provider := trace.NewTracerProvider(
		trace.WithSampler(trace.AlwaysSample()), // the default leaves out what a caller has not sampled
		trace.WithBatcher(exporter,
			trace.WithBatchTimeout(time.Second),
			trace.WithExportTimeout(outage),
			trace.WithMaxQueueSize(65_536), // spans that wait; more are dropped
		),
	)
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return provider, nil
}
