"""Comparisons from elsewhere, into a run."""
