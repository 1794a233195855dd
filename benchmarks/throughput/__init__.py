"""How much the service takes: `make bench`. Start with `__main__.py`."""
