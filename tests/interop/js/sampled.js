// Prints trace ids that the SDK's own generator makes and its own sampler keeps.
//
// node sampled.js RATIO NUMBER, with NODE_PATH naming node_modules
"use strict";
const { RandomIdGenerator, SamplingDecision, TraceIdRatioBasedSampler } = require("@opentelemetry/sdk-trace-node");

const [ratio, number] = process.argv.slice(2).map(Number);
const ids = new RandomIdGenerator();
const sampler = new TraceIdRatioBasedSampler(ratio);
for (let left = number; left > 0; ) {
  const id = ids.generateTraceId();
  if (sampler.shouldSample(undefined, id).decision === SamplingDecision.RECORD_AND_SAMPLED) {
    console.log(id);
    left -= 1;
  }
}
