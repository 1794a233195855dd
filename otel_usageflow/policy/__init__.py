"""Policies: which requests are billed, to whom, and as what. Pure decisions; only key files are read, at start."""
