"""The recursion, and everything that one turn of it needs."""
