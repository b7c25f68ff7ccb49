"""A run's memory: SQLite, shared by processes, and the weights on disk."""
