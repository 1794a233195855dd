"""Usage-based billing from OpenTelemetry: HTTP server spans in, Stripe meter events out."""

__version__ = "0.1.0"
