// What the API does, the same under every router: status codes, and attributes on the SERVER span.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// An answer is the status of a request, for which a parameter of the route may matter.
type answer func(request *http.Request, parameter string) int

// A route says what is answered where. `*` in the path is one segment, the parameter.
type route struct {
	method, path string
	answer       answer
}

// The routes of the API, but for what stands below /mounted.
var routes = []route{
	{"GET", "/by/header", always(200)},
	{"HEAD", "/by/header", always(200)},
	{"OPTIONS", "/by/header", always(204)},
	{"GET", "/by/header/", always(200)},
	{"GET", "/by/jwt", jwt},
	{"GET", "/orgs/*/items", items},
	{"GET", "/orgs/*/items/", items},
	{"GET", "/organisations/*/items", items},
	{"POST", "/by/body", create},
	{"POST", "/by/metadata", session},
	{"POST", "/chat/completions", complete},
	{"GET", "/lookup/*", lookup},
	{"GET", "/fail", always(500)},
	{"GET", "/healthz", always(200)},
}

func init() {
	// What below /by/ is answered with 200 and nothing else.
	plain := []string{"key", "bearer", "query", "any", "redacted", "basic", "cookie", "baggage", "transform", "template/p1"}
	for _, source := range plain {
		routes = append(routes, route{"GET", "/by/" + source, always(200)})
	}
}

func always(status int) answer {
	return func(*http.Request, string) int { return status }
}

func jwt(request *http.Request, _ string) int {
	if request.Header.Get("Authorization") == "" {
		return 401
	}
	return 200
}

func items(_ *http.Request, organisation string) int {
	if organisation == "ghost" {
		return 404
	}
	return 200
}

func lookup(_ *http.Request, name string) int {
	if name == "nothing" {
		return 404
	}
	return 200
}

// The body of the request, as text, is also put onto the SERVER span.
func create(request *http.Request, _ string) int {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return 400
	}
	say(request, attribute.String("http.request.body.content", string(body)))
	if !json.Valid(body) {
		return 400
	}
	return 201
}

// The handler knows the user from its session, and says so on the span.
func session(request *http.Request, _ string) int {
	if name := request.Header.Get("X-Session"); name != "" {
		say(request, attribute.String("enduser.id", strings.TrimPrefix(name, "session-of-")))
	}
	return 200
}

// A chat completion that says on the span how many tokens it used.
func complete(request *http.Request, _ string) int {
	var body struct{ Tokens any }
	decoder := json.NewDecoder(request.Body)
	decoder.UseNumber()
	if decoder.Decode(&body) != nil {
		return 400
	}
	switch tokens := body.Tokens.(type) {
	case string:
		say(request, attribute.String("app.tokens", tokens))
	case json.Number:
		if whole, err := tokens.Int64(); err == nil {
			say(request, attribute.Int64("app.tokens", whole))
		} else if fraction, err := tokens.Float64(); err == nil {
			say(request, attribute.Float64("app.tokens", fraction))
		}
	}
	return 200
}

func say(request *http.Request, attributes ...attribute.KeyValue) {
	serverSpan(request).SetAttributes(attributes...)
}
