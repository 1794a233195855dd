// OpenTelemetry with what a bill needs: every request is recorded, and says whose it is. Loaded before anything else.
'use strict'

const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http')
const { ExpressInstrumentation } = require('@opentelemetry/instrumentation-express')
const { NodeSDK, tracing } = require('@opentelemetry/sdk-node')

const sdk = new NodeSDK({
  // Whatever a caller samples, and whatever a tracing backend would like to have: billing needs every request.
  sampler: new tracing.AlwaysOnSampler(),
  instrumentations: [
    new HttpInstrumentation({ headersToSpanAttributes: { server: { requestHeaders: ['x-account-id'] } } }),
    new ExpressInstrumentation()
  ]
})
sdk.start()

// Sends what is left.
process.on('SIGTERM', () => sdk.shutdown().finally(() => process.exit(0)))
