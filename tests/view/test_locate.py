"""Where a paper's facts are in its text: exactly the words that they are about."""

import random

from hypothesis import given
from hypothesis import strategies as st

from rrm.core.records import Case, Fact, Outcome
from rrm.worlds.papers import Brief, Difficulty, facts, locate, make_brief, read, write
from rrm.worlds.papers.corpus import FRAMES, Corpus, Errors
from rrm.worlds.papers.critique import findings_chains
from rrm.worlds.papers.locating import locate_chains

seeds = st.integers(0, 10**6)


def paper(seed: int) -> tuple[Case, Outcome]:
    rng = random.Random(seed)
    case = make_brief(rng, Difficulty()).case()
    return case, Outcome(write(Brief.of(case), Corpus(rng, Errors()).paper(Brief.of(case))))


def names(found: list[Fact]) -> set[str]:
    return {fact.name for fact in found} | {part.name for fact in found for part in fact.parts if "step" in part.name}


@given(seeds)
def test_every_fact_is_located_and_reads_as_what_it_is(seed: int) -> None:
    case, outcome = paper(seed)
    brief, written = Brief.of(case), read(Brief.of(case), outcome.text)
    places = {name: outcome.text[start:stop] for name, (start, stop) in locate(case, outcome).items()}
    assert names(facts(case, outcome)) <= set(places)
    assert places["novel"] == written.title
    assert (places["verb0"], places["verb1"]) == written.sentence.verbs
    for what, chains in (("step", written.proof), ("series", written.experiment)):
        for i, values in enumerate(chains or ()):
            operations = brief.proof.steps[i] if what == "step" else brief.data[i].steps[0]
            said = [f"{operation} {value}" for operation, value in zip(operations, values, strict=True)]
            assert places[f"{what}{i}"] == " ".join(said)
            if len(said) > 1:
                assert [places[f"{what}{i}.{j}"] for j in range(len(said))] == said


@given(seeds)
def test_a_critiques_verdicts_are_located(seed: int) -> None:
    case, outcome = paper(seed)
    for role in ("proofs", "experiments"):
        for framed in FRAMES[role](case, outcome):
            answer = Outcome(Corpus(random.Random(seed), Errors()).critique(role, framed))
            places = locate_chains(framed, answer)
            assert list(places) == [finding.fact for finding in findings_chains(framed, answer)]
            pieces = [answer.text[start:stop] for start, stop in places.values()]
            assert " | ".join(pieces) + " ." == answer.text
