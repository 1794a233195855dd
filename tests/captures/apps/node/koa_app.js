// Koa, with @koa/router, and a second router mounted below /mounted.
'use strict'

const telemetry = require('./telemetry')
const { KoaInstrumentation } = require('@opentelemetry/instrumentation-koa')
telemetry.start(new KoaInstrumentation())
const Koa = require('koa')
const Router = require('@koa/router')
const answers = require('./answers')

const app = new Koa()
const router = new Router()
const mounted = new Router()

async function text (request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

// A route from a function of the context to a status; Koa would make an empty answer a 204.
const respond = (status) => async (ctx) => {
  ctx.body = ''
  ctx.status = await status(ctx)
}
const ok = respond(() => 200)
const items = respond((ctx) => answers.items(ctx.params.org))

router.options('/by/header', respond(() => 204))
router.get('/by/header', ok)
for (const source of answers.PLAIN) router.get(`/by/${source}`, ok)
router.get('/by/jwt', respond((ctx) => answers.jwt(ctx.get('authorization'))))
router.get('/orgs/:org/items', items)
router.get('/organisations/:org/items', items)
router.post('/by/body', respond(async (ctx) => answers.create(await text(ctx.req))))
router.post('/by/metadata', respond((ctx) => answers.session(ctx.req.headers['x-session'])))
router.post('/chat/completions', respond(async (ctx) => answers.complete(await text(ctx.req))))
router.get('/lookup/:name', respond((ctx) => answers.lookup(ctx.params.name)))
router.get('/fail', respond(() => 500))
router.get('/healthz', ok)
mounted.get('/items', ok)
router.use('/mounted', mounted.routes())
app.use(router.routes())

const server = app.listen(0, '127.0.0.1', () => telemetry.listening(server))
