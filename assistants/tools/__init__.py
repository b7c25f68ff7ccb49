"""Tools for assistants, each a program whose report is evidence (`rrm.core.tools`). A library is imported when it is
used.

| tool | its questions | with | cannot |
| --- | --- | --- | --- |
| `grammar.Grammar` | spelling, grammar | harper | see much of what is wrong; know names |
| `novelty.Novelty` | novelty | bm25s, MiniLM | know works that it was not given |
| `rerun.Rerun` | result | Python, in `sandbox` | say whether the computation was the right one |
| `algebra.Algebra` | step1, step2, ... | sympy, z3 | read words; vouch for terms that may be undefined |
"""
