"""The part of OTLP that billing reads."""
