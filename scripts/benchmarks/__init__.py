"""The cases of scripts/bench.py, one file each: what both sides do, and with which settings."""
