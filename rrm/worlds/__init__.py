"""Simulated worlds with exact truth, and what reads texts and tables of your own."""
