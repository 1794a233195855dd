"""The tables of version 3: how far a listing of customers has come."""

DIRECTORY_TABLES = ""
