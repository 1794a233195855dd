// The instrumentations that the API can be served with.
package main

import "net/http"

var stacks = map[string]func() http.Handler{
	"http": netHTTP,
	"bare": bare,
}
