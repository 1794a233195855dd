"""The tables of version 3: how far a listing of customers has come.

`listings`: one row an account. `generation` marks the rows of `customers` that its last listing, or what came since,
has shown. While one is `running`, `after` and `created` are the customer that it has come to (empty before the first
page), `listed` how many it has shown. `customers` is how many the last complete one has shown.
"""

DIRECTORY_TABLES = """
CREATE TABLE listings (
  account_id INTEGER PRIMARY KEY,
  generation INTEGER NOT NULL,
  running INTEGER NOT NULL,
  started REAL NOT NULL,
  fields TEXT NOT NULL,
  after TEXT NOT NULL,
  created INTEGER NOT NULL,
  listed INTEGER NOT NULL,
  customers INTEGER NOT NULL
);
INSERT INTO listings
  SELECT account_id, max(generation), 0, 0, '[]', '', 0, 0, count(DISTINCT customer)
  FROM customers GROUP BY account_id;
"""
