// Sends SERVER spans with a real exporter, at a pace, and says which users' tokens it saw acknowledged and which it lost.
//
// node send.js '{"kind": "http|proto|grpc", "url": ..., "compression": "none|gzip", "spans": 400, "users": [...], "pause": 50}'
// Prints a line of JSON for each batch that ended, {"taken": true|false, "spans": 20}, and one with the books at the end.
"use strict";
const { SpanKind } = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BatchSpanProcessor, NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");

const BATCH = 20;
const order = JSON.parse(process.argv[2]);
const books = { taken: {}, lost: {} };

/** An exporter that passes everything on and remembers how each batch ended. */
class Remembering {
  constructor(exporter) {
    this.exporter = exporter;
  }
  export(spans, done) {
    this.exporter.export(spans, (result) => {
      const book = result.code === 0 ? books.taken : books.lost;
      for (const { attributes } of spans) {
        const [user] = attributes["http.request.header.x-account-id"];
        book[user] = (book[user] ?? 0) + attributes["app.tokens"];
      }
      console.log(JSON.stringify({ taken: result.code === 0, spans: spans.length }));
      done(result);
    });
  }
  forceFlush() {
    return this.exporter.forceFlush();
  }
  shutdown() {
    return this.exporter.shutdown();
  }
}

async function main() {
  const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${order.kind}`);
  const exporter = new Remembering(new OTLPTraceExporter({ url: order.url, compression: order.compression }));
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": "api" }),
    spanProcessors: [new BatchSpanProcessor(exporter, { maxExportBatchSize: BATCH, scheduledDelayMillis: 20 })],
  });
  const tracer = provider.getTracer("interop");
  for (let number = 0; number < order.spans; number++) {
    const span = tracer.startSpan("POST /v1/chat", {
      kind: SpanKind.SERVER,
      root: true,
      attributes: {
        "http.request.method": "POST",
        "url.path": "/v1/chat",
        "http.request.header.x-account-id": [order.users[number % order.users.length]],
        "app.tokens": (number % 7) + 1,
      },
    });
    span.setAttribute("http.response.status_code", 200);
    span.end();
    if (number % BATCH === BATCH - 1) {
      await new Promise((resolve) => setTimeout(resolve, order.pause));
    }
  }
  await provider.shutdown();
  console.log(JSON.stringify(books));
}

main();
