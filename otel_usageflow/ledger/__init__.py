"""What the ledger promises, and every decision about it: pure functions, no SQL, no clock, no sockets.

Start with `states.py` (what can become of usage), then `freeze.py` (how usage becomes meter events).
"""
