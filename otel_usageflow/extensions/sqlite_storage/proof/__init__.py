"""What the ledger can be proved by: audit log, seals, verification; and its copies."""
