"""Critics of a chip design: benchmark, heat, lifetime and security, and segments, which takes a benchmark apart."""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant, Findings, Frame, Locate
from rrm.worlds.chip import critique
from rrm_assistants.aspect import critic_of


def benchmark(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Does the benchmark, run in simulation, give what the designer claims, and is the chip fast enough? The critic
    states the mean hits of every program and the time; where they differ, the claim is wrong."""
    instruction = "Which answer says rightly whether hits and time are as claimed, and the chip fast enough?"
    frame, findings, locate = critique.frame_benchmark, critique.findings_benchmark, critique.locate_benchmark
    return _critic("benchmark", instruction, frame, findings, locate, 10, 32, assistants, settings)


def heat(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Does the chip take the power that is claimed, and does it stay cool enough? The critic works out power and
    temperature again; where they differ, the claim is wrong."""
    instruction = "Which answer says rightly whether power and temperature are as claimed, and the chip cool enough?"
    frame, findings, locate = critique.frame_heat, critique.findings_heat, critique.locate_heat
    return _critic("heat", instruction, frame, findings, locate, 4, 16, assistants, settings)


def lifetime(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Does the chip last as long as is claimed, and long enough? The critic works out the years again (Black's
    equation); where they differ, the claim is wrong."""
    instruction = "Which answer says rightly whether the chip lasts as long as claimed, and long enough?"
    frame, findings, locate = critique.frame_lifetime, critique.findings_lifetime, critique.locate_lifetime
    return _critic("lifetime", instruction, frame, findings, locate, 4, 8, assistants, settings)


def security(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """Does the chip keep one domain's secrets from another? N/A where there is no attacker. The critic says how many
    bits a prime and probe tells; where it differs, the claim is wrong."""
    instruction = "Which answer says rightly whether the chip leaks what is claimed, and little enough?"
    frame, findings, locate = critique.frame_security, critique.findings_security, critique.locate_security
    return _critic("security", instruction, frame, findings, locate, 6, 8, assistants, settings)


def segments(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """What does one program's trace give, phase by phase? The critic states the hits of every phase of one program;
    where one differs, the claim is wrong."""
    return Task(
        "segments",
        instruction="Which answer states the hits of the program's phases rightly?",
        frame=critique.frame_segments,
        facts=critique.facts_segments,
        findings=critique.findings_segments,
        locate=critique.locate_segments,
        assistants=tuple(assistants),
        covers=("benchmark",),
        aspects=("segments",),
        difficulty=3,
        settings=settings or Settings(max_tokens=16, cases=64, batch=24, steps=12),
    )


def _critic(
    name: str, instruction: str, frame: Frame, findings: Findings, locate: Locate, difficulty: float, max_tokens: int,
    assistants: Sequence[Task | Assistant], settings: Settings | None,
) -> Task:  # fmt: skip
    """A critic whose verdicts on the design's facts are the facts of its answer."""
    facts = critique.verdicts(findings)
    return critic_of(
        name, instruction, frame, facts, findings, locate, difficulty, max_tokens, assistants, settings
    )
