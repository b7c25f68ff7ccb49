"""The tree of `audited_tree.py` with cases of another kind: three ideas are known, not two."""

from __future__ import annotations

from audited_tree import tree

from rrm.worlds.papers import Difficulty

task = tree(Difficulty(known=3))
