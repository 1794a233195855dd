"""Delivery: the loop that takes meter events out of the ledger, sends them, and writes down the answer."""
