"""The table of the meters that were seen in an account: by them the account is known again (`ledger/identity.py`)."""

IDENTITY_TABLES = """
CREATE TABLE known_meters (
  account_id INTEGER NOT NULL,
  meter TEXT NOT NULL,
  PRIMARY KEY (account_id, meter)
) WITHOUT ROWID;
"""
