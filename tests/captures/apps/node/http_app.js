// Node's own http server: no framework, so the spans have no route.
'use strict'

const telemetry = require('./telemetry')
telemetry.start()
const http = require('node:http')
const answers = require('./answers')

const routes = [
  ['GET', /^\/by\/header\/?$/, () => 200],
  ['HEAD', /^\/by\/header$/, () => 200],
  ['OPTIONS', /^\/by\/header$/, () => 204],
  ['GET', /^\/by\/jwt$/, (request) => answers.jwt(request.headers.authorization)],
  ['GET', /^\/by\/(.+)$/, (_request, _body, source) => answers.PLAIN.includes(source) ? 200 : 404],
  ['GET', /^\/(?:orgs|organisations)\/([^/]+)\/items\/?$/, (_request, _body, org) => answers.items(org)],
  ['POST', /^\/by\/body$/, (_request, body) => answers.create(body)],
  ['POST', /^\/by\/metadata$/, (request) => answers.session(request.headers['x-session'])],
  ['POST', /^\/chat\/completions$/, (_request, body) => answers.complete(body)],
  ['GET', /^\/lookup\/([^/]+)$/, (_request, _body, name) => answers.lookup(name)],
  ['GET', /^\/fail$/, () => 500],
  ['GET', /^\/mounted\/items$/, () => 200],
  ['GET', /^\/healthz$/, () => 200]
]

function answer (request, body) {
  const path = request.url.split('?')[0]
  for (const [method, pattern, handle] of routes) {
    const found = request.method === method && pattern.exec(path)
    if (found) return handle(request, body, ...found.slice(1).map(decodeURIComponent))
  }
  return 404
}

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    response.statusCode = answer(request, Buffer.concat(chunks).toString())
    response.end()
  })
})
server.listen(0, '127.0.0.1', () => telemetry.listening(server))
