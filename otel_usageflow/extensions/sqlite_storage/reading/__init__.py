"""What the ledger tells people: usage, explanations, and the index of traces behind them."""
