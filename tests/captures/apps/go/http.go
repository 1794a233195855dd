// The standard library's server and router, with a router mounted below /mounted.
package main

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

func mux() http.Handler {
	outer := http.NewServeMux()
	for _, route := range routes {
		path := strings.ReplaceAll(route.path, "*", "{parameter}")
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		outer.HandleFunc(route.method+" "+path, func(response http.ResponseWriter, request *http.Request) {
			response.WriteHeader(route.answer(request, request.PathValue("parameter")))
		})
	}
	mounted := http.NewServeMux()
	mounted.HandleFunc("GET /items", func(http.ResponseWriter, *http.Request) {})
	outer.Handle("/mounted/", http.StripPrefix("/mounted", mounted))
	return outer
}

// As otelhttp's documentation shows, and with what it leaves out.
func netHTTP() http.Handler { return otelhttp.NewHandler(carry(mux()), "shop") }

// As otelhttp's documentation shows, and nothing else.
func bare() http.Handler { return otelhttp.NewHandler(mux(), "shop") }
