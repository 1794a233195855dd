// What the API does, the same in every framework: status codes, and attributes on the SERVER span.
'use strict'

const { serverSpan } = require('./telemetry')

// The body of the request, as text, also put onto the SERVER span.
function create (body) {
  serverSpan().setAttribute('http.request.body.content', body)
  try {
    JSON.parse(body)
  } catch {
    return 400
  }
  return 201
}

// The handler knows the user from its session, and says so on the span.
function session (name) {
  if (name !== undefined) serverSpan().setAttribute('enduser.id', name.replace(/^session-of-/, ''))
  return 200
}

// A chat completion that says on the span how many tokens it used.
function complete (body) {
  const { tokens } = JSON.parse(body)
  if (tokens !== undefined) serverSpan().setAttribute('app.tokens', tokens)
  return 200
}

// What below /by/ is answered with 200 and nothing else.
const PLAIN = ['key', 'bearer', 'query', 'any', 'redacted', 'basic', 'cookie', 'baggage', 'transform', 'template/p1']

const jwt = (authorization) => authorization ? 200 : 401
const items = (org) => org === 'ghost' ? 404 : 200
const lookup = (name) => name === 'nothing' ? 404 : 200

module.exports = { PLAIN, create, session, complete, jwt, items, lookup }
