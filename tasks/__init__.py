"""Whole task trees. Each module has `task`, which `rrm train` and `rrm check` look for."""
