# config/initializers/opentelemetry.rb: the header with the account is put onto the span of each request.
require "opentelemetry/sdk"
require "opentelemetry/exporter/otlp"
require "opentelemetry/instrumentation/rails"

OpenTelemetry::SDK.configure do |config|
  config.service_name = "shop"
  config.use "OpenTelemetry::Instrumentation::Rack", allowed_request_headers: ["X-Account-Id"]
  config.use "OpenTelemetry::Instrumentation::Rails"
end

at_exit { OpenTelemetry.tracer_provider.shutdown } # sends what is left
