// What otelhttp and otelgin leave out and a bill may need: request headers, the raw target, and the way to the SERVER span.
package main

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

var (
	captured  = strings.Split(os.Getenv("CAPTURES_HEADERS"), ",")
	sanitized = strings.Split(os.Getenv("CAPTURES_SANITIZED_HEADERS"), ",")
)

type serverSpanKey struct{}

// carry goes inside of the instrumented handler, so that the span is there, and around everything else.
func carry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		span := trace.SpanFromContext(request.Context())
		for _, name := range captured {
			values := request.Header.Values(name)
			if slices.Contains(sanitized, name) && len(values) > 0 {
				values = []string{"[REDACTED]"}
			}
			if len(values) > 0 {
				span.SetAttributes(attribute.StringSlice("http.request.header."+name, values))
			}
		}
		if request.URL.RawQuery != "" {
			span.SetAttributes(attribute.String("url.query", request.URL.RawQuery))
		}
		span.SetAttributes(rawTarget(request)...)
		next.ServeHTTP(response, request.WithContext(context.WithValue(request.Context(), serverSpanKey{}, span)))
	})
}

// serverSpan is the span of carry, also where spans have been started since.
func serverSpan(request *http.Request) trace.Span {
	if span, ok := request.Context().Value(serverSpanKey{}).(trace.Span); ok {
		return span
	}
	return trace.SpanFromContext(request.Context())
}
