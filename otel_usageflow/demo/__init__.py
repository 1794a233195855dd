"""The demo: a sample API with the real OpenTelemetry SDK, the real service, a Stripe double, and a screen.

Read `story.py` (what happens when) first, then `traffic.py` (what is sent, and what it should cost) and
`verdict.py` (whether it did).
"""
