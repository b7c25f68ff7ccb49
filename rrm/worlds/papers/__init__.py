"""The papers world: research briefs, papers, critiques, and everything true of them."""

from rrm.worlds.papers.brief import Brief, Briefs, Difficulty, make_brief
from rrm.worlds.papers.locating import divide, locate
from rrm.worlds.papers.paper import facts, read, surface, write

__all__ = ["Brief", "Briefs", "Difficulty", "divide", "facts", "locate", "make_brief", "read", "surface", "write"]
