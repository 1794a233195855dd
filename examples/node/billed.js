// What a request took, on the SERVER span. Below Express the active span is one of a middleware or a handler.
'use strict'

const { context } = require('@opentelemetry/api')
const { getRPCMetadata } = require('@opentelemetry/core')

function billed (attributes) {
  getRPCMetadata(context.active())?.span.setAttributes(attributes)
}

module.exports = { billed }
