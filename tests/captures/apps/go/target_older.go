//go:build older

package main

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
)

// rawTarget is nothing: http.target is the instrumentation's own here, and is decoded.
func rawTarget(*http.Request) []attribute.KeyValue { return nil }
