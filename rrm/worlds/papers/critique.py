"""Critiques: what assistants of the papers world are asked, and how their answers are read.

Every critic states again what it judges ("re-derives"): a bare verdict cannot be learned by a tiny model,
a re-derivation uses the skill that writing papers uses. What it finds wrong is where its result differs.

    writing the dogs near the star runs and help it ; check       -> dogs run , dogs help .
    novelty known owl fox cat elk ; title cat ; check             -> cat found cat .
    experiments 3 +5 8 +2 1 | 7 +1 8 -4 4 ; check                 -> 3 +5 +2 0 | 7 +1 -4 4 .
    proofs 5 | +4 9 | *3 7 -2 5 | +6 1 ; check                    -> 5 +4 9 | 9 *3 -2 5 | 5 +6 1 .
    steps 9 *3 7 -2 5 ; check                                     -> 9 *3 7 , 7 -2 5 .

`proofs` and `experiments` go from the start of a step to its result at once; `steps` takes it apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Finding, Outcome, Sealed
from rrm.worlds.papers.brief import VERBS, Brief
from rrm.worlds.papers.paper import (
    PLURAL,
    PLURAL_VERB,
    PaperReader,
    agreement_names,
    chain_fact,
    experiment_parts,
    novelty_parts,
    parts_right,
    proof_parts,
    read,
    starts,
)

# --- framing: one outcome of the parent becomes the subtask's cases ----------------------------------


def frame_writing(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the sentence, its confident word left out. Raises `Malformed` if the outcome is no paper."""
    sentence = read(Brief.of(case), outcome.text).sentence
    plain = str(sentence).replace(f"{sentence.confident} ", "") if sentence.confident else str(sentence)
    data = {"subject": sentence.subject, "verbs": list(sentence.verbs)}
    return [Case(f"writing {plain[:-2]} ; check", data)]


def frame_novelty(case: Case, outcome: Outcome) -> list[Case]:
    """One case: the known ideas and the title. Raises `Malformed` if the outcome is no paper."""
    brief = Brief.of(case)
    title = read(brief, outcome.text).title
    data = {"known": list(brief.known), "title": title, "parts": novelty_parts(brief, title)}
    return [Case(f"novelty known {' '.join(brief.known)} ; title {title} ; check", data)]


def frame_experiments(case: Case, outcome: Outcome) -> list[Case]:
    """One case: every series with its results; none without an experiment (N/A). Raises `Malformed` for no paper."""
    brief = Brief.of(case)
    experiment = read(brief, outcome.text).experiment
    if experiment is None:
        return []
    names = experiment_parts(brief, experiment)
    steps = [
        {"name": name, "start": c.start, "operations": list(c.steps[0]), "stated": list(stated)}
        for name, c, stated in zip(names, brief.data, experiment, strict=True)
    ]
    return [_chains_case("experiments", steps, restate=True)]


def frame_proofs(case: Case, outcome: Outcome) -> list[Case]:
    """One case: every step with its results; none without a proof (N/A). Raises `Malformed` for no paper."""
    brief = Brief.of(case)
    proof = read(brief, outcome.text).proof
    if proof is None:
        return []
    begin = starts(brief.proof, proof)
    steps = [
        {"name": name, "start": begin[i], "operations": list(brief.proof.steps[i]), "stated": list(proof[i])}
        for i, name in enumerate(proof_parts(brief, proof))
    ]
    return [_chains_case("proofs", steps, restate=False)]


def frame_steps(case: Case, outcome: Outcome) -> list[Case]:
    """One case per composite step of what the parent criticizes; its answer concerns that step only."""
    read_chains(case, outcome)  # a malformed critique has no steps to take apart
    return [
        _chains_case("steps", [step], restate=True)
        for step in case.data["steps"]
        if len(step["operations"]) > 1
    ]


def _chains_case(role: str, steps: list[dict[str, Any]], restate: bool) -> Case:
    written = [
        " ".join(f"{op} {v}" for op, v in zip(s["operations"], s["stated"], strict=True)) for s in steps
    ]
    if restate:
        body = " | ".join(f"{s['start']} {text}" for s, text in zip(steps, written, strict=True))
    else:
        body = " | ".join([str(steps[0]["start"]), *written])
    return Case(f"{role} {body} ; check", {"steps": steps})


# --- reading an answer -------------------------------------------------------------------------------


def read_writing(case: Case, outcome: Outcome) -> list[str]:
    """The two verbs as the critic would have them."""
    reader, verbs = PaperReader(outcome.text), []
    for mark in (",", "."):
        reader.expect(case.data["subject"])
        verbs.append(reader.one_of(PLURAL_VERB, "a verb"))
        reader.expect(mark)
    reader.end()
    return verbs


def read_novelty(case: Case, outcome: Outcome) -> int | None:
    """Which known idea the critic says the title repeats: its index, or None for a new one."""
    reader = PaperReader(outcome.text)
    reader.expect(case.data["title"], "found")
    word = reader.word()
    reader.expect(".")
    reader.end()
    if word == "none":
        return None
    if word not in case.data["known"]:
        raise Malformed(f"word 3: {word!r} is not among the known ideas")
    return list(case.data["known"]).index(word)


def read_chains(case: Case, outcome: Outcome) -> list[int]:
    """The result the critic gives for every step it was shown ("proofs", "experiments")."""
    reader, results = PaperReader(outcome.text), []
    for i, step in enumerate(case.data["steps"]):
        reader.expect(*(["|"] if i else []), str(step["start"]), *step["operations"])
        results.append(reader.digit())
    reader.expect(".")
    reader.end()
    return results


def read_steps(case: Case, outcome: Outcome) -> list[int]:
    """The result the critic gives for every part of the one step it took apart."""
    (step,) = case.data["steps"]
    reader, results = PaperReader(outcome.text), []
    for i, (before, operation) in enumerate(zip(_before(step), step["operations"], strict=True)):
        reader.expect(*([","] if i else []), str(before), operation)
        results.append(reader.digit())
    reader.expect(".")
    reader.end()
    return results


def _before(step: Mapping[str, Any]) -> list[int]:
    return [step["start"], *step["stated"][:-1]]


# --- findings: the answer as claims about the parent outcome's facts ---------------------------------


def findings_writing(case: Case, outcome: Outcome) -> list[Finding]:
    """Per verb, whether the critic would have it as the paper has it. Raises `Malformed`."""
    restated = read_writing(case, outcome)
    return [
        Finding(name, verb == stated)
        for name, verb, stated in zip(agreement_names(), restated, case.data["verbs"], strict=True)
    ]


def findings_novelty(case: Case, outcome: Outcome) -> list[Finding]:
    """`novel`: it holds if the critic names no known idea; else it points at the idea named. Raises `Malformed`."""
    repeats = read_novelty(case, outcome)
    return [Finding("novel", repeats is None, repeats)]


def findings_chains(case: Case, outcome: Outcome) -> list[Finding]:
    """Per step or series, whether the critic's result is the one stated. Raises `Malformed`."""
    results = read_chains(case, outcome)
    return [
        Finding(step["name"], result == step["stated"][-1])
        for step, result in zip(case.data["steps"], results, strict=True)
    ]


def findings_steps(case: Case, outcome: Outcome) -> list[Finding]:
    """One finding, about the step: it points at the first part whose result is not the critic's. Raises `Malformed`."""
    (step,) = case.data["steps"]
    results = read_steps(case, outcome)
    wrong = [j for j, (r, s) in enumerate(zip(results, step["stated"], strict=True)) if r != s]
    return [Finding(step["name"], not wrong, wrong[0] if wrong else None)]


# --- facts: what is true of an answer ----------------------------------------------------------------


def facts_writing(case: Case, outcome: Outcome) -> list[Fact]:
    """Each restated verb: does it agree with the subject, and is it the same verb?"""
    pairs = {**VERBS, **{plural: singular for singular, plural in VERBS.items()}}
    plural = PLURAL[case.data["subject"]]
    return [
        Fact(name, "writing", Sealed(PLURAL_VERB[verb] == plural and verb in (stated, pairs[stated])))
        for name, verb, stated in zip(
            agreement_names(), read_writing(case, outcome), case.data["verbs"], strict=True
        )
    ]


def facts_novelty(case: Case, outcome: Outcome) -> list[Fact]:
    """ "Repeats idea i" is one look; "repeats none" is as many looks as there are known ideas."""
    repeats = read_novelty(case, outcome)
    parts = list(case.data["parts"])
    if repeats is not None:
        return [Fact("novel", "novelty", Sealed(parts[repeats]), claims=False)]
    return [chain_fact("novel", "novelty", parts)]


def facts_chains(aspect: str) -> Any:
    """The `facts` of a task whose outcomes are critiques of chains; they are of this aspect."""

    def facts(case: Case, outcome: Outcome) -> list[Fact]:
        """Each verdict: the step holds, or does not; settling it costs what settling the step costs."""
        found = []
        for step, finding in zip(case.data["steps"], findings_chains(case, outcome), strict=True):
            right = parts_right(step["start"], tuple(step["operations"]), tuple(step["stated"]))
            found.append(chain_fact(step["name"], aspect, right, claims=finding.holds))
        return found

    return facts


def facts_steps(case: Case, outcome: Outcome) -> list[Fact]:
    """Each re-derived part is one cheap fact: here judging ends, the user can do it alone."""
    (step,) = case.data["steps"]
    results = tuple(read_steps(case, outcome))
    right = [
        parts_right(b, (op,), (r,))[0]
        for b, op, r in zip(_before(step), step["operations"], results, strict=True)
    ]
    return [Fact(f"part{j}", "steps", Sealed(ok)) for j, ok in enumerate(right)]
