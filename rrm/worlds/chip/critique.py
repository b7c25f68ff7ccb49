"""Critiques: what assistants of the chip world are asked, and how their answers are read.

Every critic works out again what it judges. A claim that does not agree with its number is wrong, and a goal that its
number misses is missed. It is shown the cache and what it needs of the specification, but not the claims: most of them
are right, and a critic that can copy does not work anything out.

    benchmark   the mean hits of each program, and the time     -> A mean 70 percent , B mean 65 percent , time 3.4 ns .
    segments    the hits of each phase of one program           -> A hits 90 55 65 percent .
    heat        power and temperature                           -> power 0.6 + 0.2 W , 61 C .
    lifetime    Black's equation                                -> 12 years .
    security    prime and probe                                 -> leak 1.0 bits .

`benchmark` goes from a program to its mean at once; `segments` takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Finding, Outcome, Sealed
from rrm.worlds.chip.design import (
    Design,
    DesignReader,
    Places,
    facts_of,
    read,
    read_heat,
    read_hits,
    read_one,
    write_cache,
    write_hits,
)
from rrm.worlds.chip.simulation import agree, mean, simulate
from rrm.worlds.chip.spec import Spec

# --- framing: one outcome of the parent becomes the subtask's cases ----------------------------------


def frame_benchmark(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the cache, the programs and their seed. Raises `Malformed` if the outcome is no design."""
    spec, design = Spec.of(case), read(Spec.of(case), outcome.text)
    example = " , ".join(f"{name} mean 50 percent" for name, _ in spec.named)
    prompt = [
        "Simulate this cache .", write_cache(design.cache), *spec.program_texts, f"Seed {spec.seed} .",
        f"What are the mean hits and the time ? Answer like : {example} , time 3.0 ns .",
    ]  # fmt: skip
    return [_case(prompt, spec, outcome)]


def frame_segments(case: Case, outcome: Outcome) -> list[Case]:
    """One case for each program of what the benchmark's critic criticizes."""
    read_benchmark(case, outcome)  # a malformed critique has nothing to take apart
    spec, design = behind(case)
    cases = []
    for i, (name, program) in enumerate(spec.named):
        prompt = [
            "Simulate this cache phase by phase .", write_cache(design.cache), spec.program_texts[i],
            f"Seed {spec.seed} . Answer like : {write_hits(name, (50,) * len(program))} .",
        ]  # fmt: skip
        cases.append(Case(" ".join(prompt), {**case.data, "program": i}))
    return cases


def frame_heat(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the cache and its cooling. Raises `Malformed` if the outcome is no design."""
    return [_equation("heat", "power 0.5 + 0.5 W , 60 C .", case, outcome)]


def frame_lifetime(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the cache and its cooling. Raises `Malformed` if the outcome is no design."""
    return [_equation("lifetime", "5 years .", case, outcome)]


def _equation(what: str, example: str, case: Case, outcome: Outcome) -> Case:
    spec, design = Spec.of(case), read(Spec.of(case), outcome.text)
    prompt = [
        f"Compute the {what} of this cache .", write_cache(design.cache), f"Cooling {spec.cooling} K/W .",
        f"Answer like : {example}",
    ]  # fmt: skip
    return _case(prompt, spec, outcome)


def frame_security(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the cache and the attacker; none without one (N/A). Raises `Malformed` if the outcome is no design."""
    spec, design = Spec.of(case), read(Spec.of(case), outcome.text)
    if spec.noise is None:
        return []
    prompt = [
        "Attack this cache .", write_cache(design.cache), f"{spec.attacker_text} Seed {spec.seed} .",
        "Answer like : leak 0.5 bits .",
    ]  # fmt: skip
    return [_case(prompt, spec, outcome)]


def _case(prompt: Sequence[str], spec: Spec, outcome: Outcome) -> Case:
    return Case(" ".join(prompt), {"spec": asdict(spec), "design": outcome.text})


def behind(case: Case) -> tuple[Spec, Design]:
    """The specification and the design behind a critic's case."""
    spec = Spec.from_json(case.data["spec"])
    return spec, read(spec, case.data["design"])


# --- reading an answer -------------------------------------------------------------------------------


def read_benchmark(case: Case, outcome: Outcome, places: Places | None = None) -> tuple[list[float], float]:
    """(mean percent of hits of each program, mean access time in ns). `places` gets where they are."""
    spec = Spec.from_json(case.data["spec"])
    reader, means, found = DesignReader(outcome.text), [], Places() if places is None else places
    for name, _ in spec.named:
        start = reader.at
        reader.expect(f"{name} mean")
        means.append(reader.number(0, 100))
        reader.expect("percent")
        found[name] = reader.span(start)
        reader.expect(",")
    ns = read_one(reader, "time", 99, "ns", ("ns", "fast"), found)
    _close(reader)
    return means, ns


def read_segments(case: Case, outcome: Outcome, places: Places | None = None) -> tuple[float, ...]:
    """Percent of hits of each phase of the one program."""
    name, program = Spec.from_json(case.data["spec"]).named[case.data["program"]]
    reader = DesignReader(outcome.text)
    hits = read_hits(reader, name, len(program), Places() if places is None else places)
    _close(reader)
    return hits


def read_watts(outcome: Outcome, places: Places | None = None) -> tuple[float, float, float]:
    """(switching watts, leakage watts, degrees Celsius)."""
    reader = DesignReader(outcome.text)
    found = read_heat(reader, Places() if places is None else places)
    _close(reader)
    return found


def read_years(outcome: Outcome, places: Places | None = None) -> float:
    """Median lifetime in years, 0 to 99. Raises `Malformed`."""
    reader = DesignReader(outcome.text)
    years = read_one(reader, "", 99, "years", ("years", "lasts"), Places() if places is None else places)
    _close(reader)
    return years


def read_bits(outcome: Outcome, places: Places | None = None) -> float:
    """Bits that one probe tells the attacker, 0 to 1. Raises `Malformed`."""
    reader = DesignReader(outcome.text)
    bits = read_one(reader, "leak", 1, "bits", ("bits", "safe"), Places() if places is None else places)
    _close(reader)
    return bits


def _close(reader: DesignReader) -> None:
    reader.expect(".")
    reader.end()


# --- findings: the answer as claims about the design's facts -----------------------------------------


def findings_benchmark(case: Case, outcome: Outcome) -> list[Finding]:
    """Per program: is the mean of the claimed hits the critic's? `ns`: is the claimed time? `fast`: does the critic's
    time reach the goal? Raises `Malformed`."""
    means, ns = read_benchmark(case, outcome)
    spec, design = behind(case)
    return [
        *(
            Finding(name, agree("mean", mean(said), found))
            for (name, _), said, found in zip(spec.named, design.claims.hits, means, strict=True)
        ),
        Finding("ns", agree("ns", design.claims.ns, ns)),
        Finding("fast", ns <= spec.goals.ns),
    ]


def findings_segments(case: Case, outcome: Outcome) -> list[Finding]:
    """One finding, which points at the first phase whose claim is not the critic's. Raises `Malformed`."""
    found = read_segments(case, outcome)
    spec, design = behind(case)
    said = design.claims.hits[case.data["program"]]
    wrong = [j for j, (s, f) in enumerate(zip(said, found, strict=True)) if not agree("hits", s, f)]
    return [Finding(spec.named[case.data["program"]][0], not wrong, wrong[0] if wrong else None)]


def findings_heat(case: Case, outcome: Outcome) -> list[Finding]:
    """`watts` (part 0 switching, 1 leakage), `celsius`: are the claims the critic's? `cool`: does the critic's
    temperature reach the goal? Raises `Malformed`."""
    switching, leakage, celsius = read_watts(outcome)
    spec, design = behind(case)
    said = design.claims
    right = (agree("switching", said.switching, switching), agree("leakage", said.leakage, leakage))
    return [
        Finding("watts", all(right), None if all(right) else right.index(False)),
        Finding("celsius", agree("celsius", said.celsius, celsius)),
        Finding("cool", celsius <= spec.goals.celsius),
    ]


def findings_lifetime(case: Case, outcome: Outcome) -> list[Finding]:
    """`years`: is the claim the critic's? `lasts`: do the critic's years reach the goal? Raises `Malformed`."""
    years = read_years(outcome)
    spec, design = behind(case)
    return [Finding("years", agree("years", design.claims.years, years)), Finding("lasts", years >= spec.goals.years)]


def findings_security(case: Case, outcome: Outcome) -> list[Finding]:
    """`bits`: is the claim the critic's? `safe`: do the critic's bits reach the goal? Raises `Malformed`, also if there
    is no attacker."""
    bits = read_bits(outcome)
    spec, design = behind(case)
    if design.claims.bits is None or spec.goals.bits is None:
        raise Malformed("there is no attacker to judge")
    return [Finding("bits", agree("bits", design.claims.bits, bits)), Finding("safe", bits <= spec.goals.bits)]


# --- facts: what is true of an answer ----------------------------------------------------------------


def verdicts(findings: Callable[[Case, Outcome], list[Finding]]) -> Callable[[Case, Outcome], list[Fact]]:
    """The facts of a critic's answer: each verdict, that a fact of the design holds, or does not."""

    def facts(case: Case, outcome: Outcome) -> list[Fact]:
        says = {finding.fact: finding.holds for finding in findings(case, outcome)}
        matters = facts_of(*behind(case))
        return [replace(fact, claims=says[fact.name]) for fact in matters if fact.name in says]

    return facts


def facts_segments(case: Case, outcome: Outcome) -> list[Fact]:
    """Each phase's number is one cheap fact: here judging ends, the user can do it alone."""
    said = read_segments(case, outcome)
    spec, design = behind(case)
    found = simulate(spec, design.cache).hits[case.data["program"]]
    return [
        Fact(f"phase{j}", "segments", Sealed(agree("hits", s, f)))
        for j, (s, f) in enumerate(zip(said, found, strict=True))
    ]


# --- where it is -------------------------------------------------------------------------------------


def locate_benchmark(case: Case, outcome: Outcome) -> Places:
    """Each program's mean, and the time (both `ns` and `fast`). Raises `Malformed`."""
    places = Places()
    read_benchmark(case, outcome, places)
    return places


def locate_segments(case: Case, outcome: Outcome) -> Places:
    """phase0, phase1, ...: the number of each phase. Raises `Malformed`."""
    places = Places()
    read_segments(case, outcome, places)
    return {f"phase{name.rpartition('.')[2]}": span for name, span in places.items() if "." in name}


def locate_heat(case: Case, outcome: Outcome) -> Places:
    """The power, its two parts, and the temperature (both `celsius` and `cool`). Raises `Malformed`."""
    places = Places()
    read_watts(outcome, places)
    return places


def locate_lifetime(case: Case, outcome: Outcome) -> Places:
    """The years (both `years` and `lasts`). Raises `Malformed`."""
    places = Places()
    read_years(outcome, places)
    return places


def locate_security(case: Case, outcome: Outcome) -> Places:
    """The leak (both `bits` and `safe`). Raises `Malformed`."""
    places = Places()
    read_bits(outcome, places)
    return places
