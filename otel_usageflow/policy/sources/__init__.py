"""Where a policy finds the user: one module for each source, all listed in `catalogue`."""
