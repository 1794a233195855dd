//go:build !older

// Gin, with its instrumentation alone, and inside of otelhttp's as well.
package main

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

func init() {
	stacks["gin"], stacks["gin-inside"] = ginAlone, ginInside
}

func engine(middleware ...gin.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.UseRawPath = true // or else an encoded slash would be one that separates
	engine.Use(middleware...)
	for _, route := range routes {
		engine.Handle(route.method, strings.ReplaceAll(route.path, "*", ":parameter"), func(c *gin.Context) {
			c.Status(route.answer(c.Request, c.Param("parameter")))
		})
	}
	engine.Group("/mounted").GET("/items", func(*gin.Context) {})
	return engine
}

// As otelgin's documentation shows, and with what it leaves out.
func ginAlone() http.Handler { return engine(otelgin.Middleware("shop"), asGin(carry)) }

// Both report every request: two SERVER spans, which are siblings if the caller has a trace. The outer one is billed.
func ginInside() http.Handler {
	return otelhttp.NewHandler(carry(engine(otelgin.Middleware("shop"))), "shop")
}

// asGin makes middleware for Gin of the standard library's.
func asGin(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
			c.Request = request
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	}
}
