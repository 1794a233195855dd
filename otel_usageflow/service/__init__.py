"""Builds everything from the configuration, starts it, and stops it; `run.run` is the way in."""
