"""Research briefs: the cases of the papers world.

A brief names what is already known, the data that was measured and the chain of operations to prove:

    brief known owl fox cat ; data 3 +5 +2 | 7 +1 -4 ; prove 5 | +4 | *3 -2 | +6 ; need proof ; paper

Arithmetic is modulo 10, so that every value is one token. `+4` is one token too.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rrm.core.records import Case, digest

IDEAS = [
    "owl", "fox", "cat", "elk", "bee", "ant", "bat", "hen", "cow", "pig", "ram", "emu", "yak", "eel",
    "cod", "ape", "bear", "deer", "frog", "goat", "hare", "lark", "lion", "mole", "moth", "newt",
    "puma", "seal", "swan", "toad", "wasp", "wolf",
]  # fmt: skip
NOUNS = {"dog": "dogs", "bird": "birds", "model": "models", "cell": "cells", "star": "stars", "wave": "waves"}
VERBS = {
    "runs": "run", "helps": "help", "grows": "grow", "finds": "find", "moves": "move", "keeps": "keep",
}  # fmt: skip
OPERATIONS = [f"{sign}{k}" for sign in "+-" for k in range(1, 10)] + [f"*{k}" for k in range(2, 10)]


def apply(value: int, operation: str) -> int:
    """One step of arithmetic modulo 10: apply(7, "+4") == 1."""
    k = int(operation[1:])
    return {"+": value + k, "-": value - k, "*": value * k}[operation[0]] % 10


@dataclass(frozen=True)
class Difficulty:
    """How large a brief is. The same tree can be made harder than it was trained on."""

    steps: int = 4
    """Steps of the proof; every second one, starting with the second, is composite."""
    parts: int = 3
    """Parts of a composite step."""
    series: int = 2
    """Series of measurements to be totaled: each is one composite fact."""
    data: int = 3
    """Changes in a series: the parts of its total."""
    known: int = 2
    """Ideas that are known already."""


@dataclass(frozen=True)
class Chain:
    """A start value and the operations on it, grouped into steps: "5 | +4 | *3 -2"."""

    start: int
    steps: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Brief:
    """What is known, the series that were measured, the chain to be proved, and which sections are asked for (`needs`:
    proof, experiment)."""

    known: tuple[str, ...]
    data: tuple[Chain, ...]
    proof: Chain
    needs: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The brief as one line, each word a word of the world's vocabulary; see the module."""
        data = " | ".join(f"{c.start} {' '.join(c.steps[0])}" for c in self.data)
        proof = " | ".join([str(self.proof.start), *(" ".join(step) for step in self.proof.steps)])
        needs = " and ".join(self.needs) or "none"
        return f"brief known {' '.join(self.known)} ; data {data} ; prove {proof} ; need {needs} ; paper"

    def case(self) -> Case:
        """The case with this brief as its data: the inverse of `of`."""
        return Case(self.prompt, asdict(self))

    @classmethod
    def of(cls, case: Case) -> Brief:
        """The brief behind a case (also after a round trip through JSON)."""

        def chain(raw: Mapping[str, Any]) -> Chain:
            return Chain(raw["start"], tuple(tuple(step) for step in raw["steps"]))

        raw = case.data
        return cls(
            tuple(raw["known"]),
            tuple(chain(c) for c in raw["data"]),
            chain(raw["proof"]),
            tuple(raw["needs"]),
        )


def make_brief(rng: random.Random, difficulty: Difficulty = Difficulty()) -> Brief:
    """A random brief of this size. Of six, four ask for proof and experiment, one for a proof only, one for an
    experiment only."""

    def operations(n: int) -> tuple[str, ...]:
        return tuple(rng.choice(OPERATIONS) for _ in range(n))

    d = difficulty
    steps = tuple(operations(d.parts if i % 2 else 1) for i in range(d.steps))
    needs = rng.choice([("proof", "experiment")] * 4 + [("proof",), ("experiment",)])
    return Brief(
        known=tuple(rng.sample(IDEAS, d.known)),
        data=tuple(Chain(rng.randrange(10), (operations(d.data),)) for _ in range(d.series)),
        proof=Chain(rng.randrange(10), steps),
        needs=needs,
    )


@dataclass(frozen=True)
class Briefs:
    """An endless supply of briefs. `split` keeps training and held-out briefs apart."""

    seed: int = 0
    split: str = "train"
    difficulty: Difficulty = Difficulty()

    def draw(self, n: int, key: str) -> list[Case]:
        """`n` cases; (seed, split, key) decide which."""
        rng = random.Random(digest(self.seed, self.split, key))
        return [make_brief(rng, self.difficulty).case() for _ in range(n)]
