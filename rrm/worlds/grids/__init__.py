"""Environments on grids whose own reward pays for something else than what is wanted, with exact truth: for agents that
act."""

from rrm.worlds.grids.boat import BoatRace, Course

__all__ = ["BoatRace", "Course"]
