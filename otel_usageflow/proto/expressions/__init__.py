"""The part of CEL that tells what an expression reads."""
