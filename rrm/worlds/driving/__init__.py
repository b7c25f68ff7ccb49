"""Environments with a proxy that pays for something else than what is wanted, and exact truth: for agents that act."""

from rrm.worlds.driving.boat import BoatRace, Course

__all__ = ["BoatRace", "Course"]
