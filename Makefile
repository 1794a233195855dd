# Each target does all of its own set-up from a bare checkout with Python 3.11 or newer, in .venv/.
.PHONY: demo test lint fmt proto docs
