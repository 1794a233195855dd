"""What may or may not be counted: unknown outcomes, Stripe's late reports, verdicts, sums to compare."""
