// Fastify, with a plugin mounted below /mounted.
'use strict'

const telemetry = require('./telemetry')
const { FastifyOtelInstrumentation } = require('@fastify/otel')
const fastifyOtel = new FastifyOtelInstrumentation()
telemetry.start(fastifyOtel)
const answers = require('./answers')
const app = require('fastify')({ routerOptions: { ignoreTrailingSlash: true } })

async function routes () {
  await app.register(fastifyOtel.plugin())
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  const items = (request, reply) => reply.code(answers.items(request.params.org)).send()

  app.options('/by/header', (_request, reply) => reply.code(204).send())
  app.get('/by/header', (_request, reply) => reply.send())
  for (const source of answers.PLAIN) {
    app.get(`/by/${source}`, (_request, reply) => reply.send())
  }
  app.get('/by/jwt', (request, reply) => reply.code(answers.jwt(request.headers.authorization)).send())
  app.get('/orgs/:org/items', items)
  app.get('/organisations/:org/items', items)
  app.post('/by/body', (request, reply) => reply.code(answers.create(request.body)).send())
  app.post('/by/metadata', (request, reply) => reply.code(answers.session(request.headers['x-session'])).send())
  app.post('/chat/completions', (request, reply) => reply.code(answers.complete(request.body)).send())
  app.get('/lookup/:name', (request, reply) => reply.code(answers.lookup(request.params.name)).send())
  app.get('/fail', (_request, reply) => reply.code(500).send())
  app.register(async (mounted) => mounted.get('/items', (_request, reply) => reply.send()), { prefix: '/mounted' })
  app.get('/healthz', (_request, reply) => reply.send())
  await app.listen({ port: 0, host: '127.0.0.1' })
  telemetry.listening(app.server)
}

routes()
