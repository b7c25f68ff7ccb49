"""`python -m rrm`: the command line, also for torchrun."""

from rrm.command.cli import app

app()
