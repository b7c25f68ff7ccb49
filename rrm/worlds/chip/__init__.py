"""The chip world: specifications of a data cache, designs, a simulator, critiques, and everything true of them."""

from rrm.worlds.chip.cache import Cache
from rrm.worlds.chip.design import Design, facts, locate, read, surface, write
from rrm.worlds.chip.simulation import Numbers, simulate
from rrm.worlds.chip.spec import Difficulty, Spec
from rrm.worlds.chip.supply import Specs, make_spec

__all__ = [
    "Cache", "Design", "Difficulty", "Numbers", "Spec", "Specs", "facts", "locate", "make_spec", "read", "simulate",
    "surface", "write",
]  # fmt: skip
