# app/controllers/completions_controller.rb: the handler says what the request took, and may say whose it was.
class CompletionsController < ApplicationController
  def create
    # The SERVER span, also where another span has been started since.
    span = OpenTelemetry::Instrumentation::Rack.current_span
    span.set_attribute("app.tokens", 42)
    span.set_attribute("enduser.id", current_account.id) if current_account
    render json: { answer: "42" }
  end
end
