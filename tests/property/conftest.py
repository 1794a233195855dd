"""Hypothesis for every machine: how long an example takes says nothing on a busy one."""

from hypothesis import settings

settings.register_profile("any-machine", deadline=None, print_blob=True)
settings.load_profile("any-machine")
