"""Meter events that may or may not be counted: what to ask the summaries about them, and what became of it."""

from otel_usageflow.extensions.sqlite_storage.verdicts import decide

__all__ = ["decide"]
