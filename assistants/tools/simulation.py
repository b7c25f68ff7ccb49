"""Runs a chip's benchmark again, in simulation: by default a short one, which is quick and at times wrong.

The truth of the chip world is the long run (`rrm.worlds.chip.cache.ACCESSES` accesses of each phase). In a short one
the first, cold accesses weigh more, so hits come out low.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from rrm import Case, Finding, Malformed, Outcome
from rrm.core.errors import Abstain
from rrm.core.task import Assistant
from rrm.core.tool_agent import tool_assistant
from rrm.core.tools import Report, code_hash, version_of
from rrm.worlds.chip import Spec, cache, physics, read, simulate
from rrm.worlds.chip.simulation import agree


@dataclass(frozen=True)
class Simulation:
    """Questions: each program (are its hits as claimed), ns (is the time as claimed), fast (does it reach the goal).

    accesses: of each phase that are run.
    """

    accesses: int = 256
    name = "simulation"
    instruction = "The benchmark is run again, for a shorter time, and its results compared with those claimed."

    @property
    def version(self) -> str:
        """With a hash of the simulator's source."""
        return f"{version_of(self)}, {code_hash(inspect.getsource(cache), inspect.getsource(physics))}"

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        spec = Spec.of(case)
        try:
            design = read(spec, outcome.text)
        except Malformed as why:
            raise Abstain(f"this is no design: {why}") from why
        found, said = simulate(spec, design.cache, accesses=self.accesses), design.claims
        findings = []
        for (name, _), claimed, ran in zip(spec.named, said.hits, found.hits, strict=True):
            wrong = [j for j, (s, f) in enumerate(zip(claimed, ran, strict=True)) if not agree("hits", s, f)]
            note = f"phase {wrong[0] + 1}: {ran[wrong[0]]:.0f} percent" if wrong else ""
            findings.append(Finding(name, not wrong, wrong[0] if wrong else None, note))
        time = f"{found.ns:.1f} ns"
        right, fast = agree("ns", said.ns, found.ns), found.ns <= spec.goals.ns
        findings += [Finding("ns", right, note="" if right else time), Finding("fast", fast, note="" if fast else time)]
        return Report(tuple(findings))


def simulated_benchmark(accesses: int = 256) -> Assistant:
    """The tool as an assistant, in the place of `rrm_assistants.benchmark`."""
    return tool_assistant(Simulation(accesses), covers=("benchmark",), difficulty=10, name="benchmark")
