// OpenTelemetry for the Node servers: SDK, OTLP exporter and HTTP instrumentation, settings from the environment.
'use strict'

const { context } = require('@opentelemetry/api')
const { getRPCMetadata } = require('@opentelemetry/core')
const { registerInstrumentations } = require('@opentelemetry/instrumentation')
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http')
const { defaultResource, resourceFromAttributes } = require('@opentelemetry/resources')
const { BatchSpanProcessor, NodeTracerProvider } = require('@opentelemetry/sdk-trace-node')

const format = process.env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL === 'http/json' ? 'http' : 'proto'
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${format}`)

const requestHeaders = process.env.CAPTURES_HEADERS.split(',')
const sanitized = process.env.CAPTURES_SANITIZED_HEADERS.split(',')

// Node's instrumentation has no setting that redacts a header, so its users do it in this hook.
function redact (span, request) {
  for (const name of sanitized) {
    if (request.headers?.[name] === undefined) continue
    for (const key of [name, name.replaceAll('-', '_')]) {
      const attribute = `http.request.header.${key}`
      if (span.attributes[attribute] !== undefined) span.setAttribute(attribute, ['[REDACTED]'])
    }
  }
}

const provider = new NodeTracerProvider({
  resource: defaultResource().merge(resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME })),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())]
})

function start (...instrumentations) {
  provider.register()
  const http = new HttpInstrumentation({
    headersToSpanAttributes: { server: { requestHeaders } },
    applyCustomAttributesOnSpan: redact
  })
  registerInstrumentations({ instrumentations: [http, ...instrumentations] })
}

// The SERVER span, which is not the active one below a framework's own spans.
function serverSpan () {
  return getRPCMetadata(context.active())?.span
}

function listening (server) {
  console.log(server.address().port)
  process.on('SIGTERM', () => provider.shutdown().then(() => process.exit(0)))
}

module.exports = { start, serverSpan, listening }
