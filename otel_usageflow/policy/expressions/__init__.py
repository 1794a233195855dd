"""CEL in policies: `condition` and `expression`, checked at start and bounded at run time."""
