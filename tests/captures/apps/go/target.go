//go:build !older

package main

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
)

// rawTarget is for an encoded slash in the path, which url.path has decoded.
func rawTarget(request *http.Request) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("http.target", request.RequestURI)}
}
