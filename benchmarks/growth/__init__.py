"""What a batch costs as everything grows: `make bench-growth`. Start with `__main__.py`."""
