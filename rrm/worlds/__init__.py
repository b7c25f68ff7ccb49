"""Worlds with exact truth, for measuring."""
