"""Specifications of a data cache: the cases of the chip world.

A specification has programs to run (each a row of phases), an attacker or none, the package's cooling, and goals.
The goals are what a reference design, drawn at random and then forgotten, reaches in the simulation: so every
specification can be met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from rrm.core.records import Case

KILOBYTES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes of memory regions and of caches."""
STRIDES = (4, 16, 64, 256)
"""Bytes from one access of a walk to the next."""
NOISE = (0, 2, 8, 32)
"""Other accesses of the victim between an attacker's prime and probe."""
PROGRAMS = "ABCDEFGH"


@dataclass(frozen=True)
class Phase:
    """One segment of a program's trace: a pattern of accesses to a memory region of its own.

    walk: over a region of `kilobytes`, `step` bytes at a time, again and again.
    scatter: words of the region, each as likely.
    hot: as scatter, but 9 of 10 accesses go to the region's first `step` kilobytes.
    """

    pattern: str
    kilobytes: int
    step: int = 0

    @property
    def text(self) -> str:
        """As prompts have it: "walk 8 kB by 64 B", "hot 2 kB in 16 kB", "scatter 4 kB"."""
        if self.pattern == "walk":
            return f"walk {self.kilobytes} kB by {self.step} B"
        return f"hot {self.step} kB in {self.kilobytes} kB" if self.pattern == "hot" else f"scatter {self.kilobytes} kB"


Program = tuple[Phase, ...]


@dataclass(frozen=True)
class Goals:
    """What a design is to reach; `bits` is None where there is no attacker."""

    ns: float
    """Mean access time, at most."""
    celsius: int
    """Junction temperature, at most."""
    years: int
    """Median lifetime, at least."""
    bits: float | None
    """What the attacker learns of a secret bit per probe, at most."""


@dataclass(frozen=True)
class Difficulty:
    """How large a specification is."""

    programs: int = 2
    phases: int = 3
    """Phases of each program: the parts of its benchmark."""


@dataclass(frozen=True)
class Spec:
    """A specification. `area`: most kilobytes of cells; `cooling`: kelvin per watt from junction to air; `noise`: of
    the attack, None without an attacker; `seed`: decides the traces and the attack, so that they can be repeated."""

    area: int
    programs: tuple[Program, ...]
    seed: int
    cooling: int
    noise: int | None
    goals: Goals

    @property
    def program_texts(self) -> list[str]:
        """ "Program A : walk 8 kB by 64 B , scatter 4 kB ." for each."""
        return [
            f"Program {name} : {' , '.join(phase.text for phase in program)} ."
            for name, program in zip(PROGRAMS, self.programs, strict=False)
        ]

    @property
    def attacker_text(self) -> str:
        """The attacker as prompts have it: "Attacker : prime and probe , noise 8 ."; "none" without one."""
        return "Attacker : none ." if self.noise is None else f"Attacker : prime and probe , noise {self.noise} ."

    @property
    def prompt(self) -> str:
        """What the designer reads. Words are set apart by blanks, for models that know words only."""
        g = self.goals
        goals = f"{g.ns:.1f} ns , {g.celsius} C , {g.years} years" + ("" if g.bits is None else f" , {g.bits:.1f} bits")
        hits = " , ".join(f"{name} hits {'50 ' * len(program)}percent" for name, program in self.named)
        leak = "" if self.noise is None else " , leak 0.5 bits"
        return " ".join([
            f"Design a data cache of at most {self.area} kB .", *self.program_texts,
            f"Seed {self.seed} . Cooling {self.cooling} K/W . {self.attacker_text} Goals : {goals} .",
            "Choose lru , fifo or random ; shared , partitioned or hashed . Answer like : cache 8 kB , line 32 B ,",
            "ways 2 , lru , shared , 0.8 V , 1.0 GHz .",
            f"{hits} , time 3.0 ns , power 0.5 + 0.5 W , 60 C , 5 years{leak} .",
        ])  # fmt: skip

    @cached_property
    def named(self) -> tuple[tuple[str, Program], ...]:
        """The programs with their names: A, B, ..."""
        return tuple(zip(PROGRAMS, self.programs, strict=False))

    def case(self) -> Case:
        """The case with this specification as its data: the inverse of `of`."""
        return Case(self.prompt, asdict(self))

    @classmethod
    def of(cls, case: Case) -> Spec:
        """The specification behind a case (also after a round trip through JSON)."""
        return cls.from_json(case.data)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Spec:
        """From what `asdict` gives; lists do for tuples."""
        programs = tuple(
            tuple(Phase(p["pattern"], p["kilobytes"], p["step"]) for p in program) for program in raw["programs"]
        )
        goals = Goals(**raw["goals"])
        return cls(raw["area"], programs, raw["seed"], raw["cooling"], raw["noise"], goals)
