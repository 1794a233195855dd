// Express, with a router mounted below /mounted.
'use strict'

const telemetry = require('./telemetry')
const { ExpressInstrumentation } = require('@opentelemetry/instrumentation-express')
telemetry.start(new ExpressInstrumentation())
const express = require('express')
const answers = require('./answers')

const app = express()
const mounted = express.Router()
const items = (request, response) => response.status(answers.items(request.params.org)).end()

app.use(express.text({ type: '*/*' }))
app.options('/by/header', (_request, response) => response.status(204).end())
app.get('/by/header', (_request, response) => response.end())
for (const source of answers.PLAIN) {
  app.get(`/by/${source}`, (_request, response) => response.end())
}
app.get('/by/jwt', (request, response) => response.status(answers.jwt(request.get('authorization'))).end())
app.get('/orgs/:org/items', items)
app.get('/organisations/:org/items', items)
app.post('/by/body', (request, response) => response.status(answers.create(request.body)).end())
app.post('/by/metadata', (request, response) => response.status(answers.session(request.get('x-session'))).end())
app.post('/chat/completions', (request, response) => response.status(answers.complete(request.body)).end())
app.get('/lookup/:name', (request, response) => response.status(answers.lookup(request.params.name)).end())
app.get('/fail', (_request, response) => response.status(500).end())
mounted.get('/items', (_request, response) => response.end())
app.use('/mounted', mounted)
app.get('/healthz', (_request, response) => response.end())

const server = app.listen(0, '127.0.0.1', () => telemetry.listening(server))
