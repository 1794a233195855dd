"""Version 1 of the span schema."""
