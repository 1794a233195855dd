// An API that answers, and says what it took: node --require ./telemetry.js app.js PORT
'use strict'

const express = require('express')
const { billed } = require('./billed')

const app = express()

app.get('/healthz', (_request, response) => response.end())
app.post('/v1/chat/completions', (_request, response) => {
  billed({ 'app.tokens': 42 })
  response.json({ answer: '42' })
})

app.listen(Number(process.argv[2]), '127.0.0.1')
