package main

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// billed puts onto the SERVER span what otelhttp leaves out: request headers, of which it captures none, and the query.
//
// It goes inside of otelhttp's handler, so that the span is there. Only what a policy asks for belongs on a span.
func billed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span := trace.SpanFromContext(r.Context())
		if values := r.Header.Values("x-account-id"); len(values) > 0 {
			span.SetAttributes(attribute.StringSlice("http.request.header.x-account-id", values))
		}
		if r.URL.RawQuery != "" {
			span.SetAttributes(attribute.String("url.query", r.URL.RawQuery))
		}
		next.ServeHTTP(w, r)
	})
}
