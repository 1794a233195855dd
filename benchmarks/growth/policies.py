"""Policies: one that bills, and more for endpoints that nobody calls."""

from growth.curve import Curve

CURVE = Curve("policies", (1, 10, 100, 1_000), policies=lambda size: size)
