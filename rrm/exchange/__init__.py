"""Comparisons, reward models and agents to other libraries and back."""
