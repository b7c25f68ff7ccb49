"""Looking at a run: in the terminal, and as pages."""
