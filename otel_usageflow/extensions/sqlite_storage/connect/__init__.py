"""What is kept of connected accounts, and of the tokens that let companies in."""
