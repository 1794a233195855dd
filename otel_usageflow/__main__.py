"""`python -m otel_usageflow` is the same as the `otel-usageflow` command."""

from otel_usageflow.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
