"""Measuring against the exact truth: the harness, and the only code that may read the oracle."""
