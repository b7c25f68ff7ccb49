"""The papers world: what is written reads back, facts are the truth, the corpus is as wrong as it says."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm.core.errors import Malformed
from rrm.core.records import Case, Outcome
from rrm.measure.oracle import aspects, is_true, matter, score
from rrm.worlds.papers import Brief, Briefs, Difficulty, critique, facts, make_brief, read, surface, write
from rrm.worlds.papers.brief import OPERATIONS, apply
from rrm.worlds.papers.corpus import FRAMES, ROLES, Corpus, Errors, vocabulary

seeds = st.integers(0, 10**6)
CLEAN = Errors(arithmetic=0, agreement=0, known=0, critic=0)


def example(
    seed: int, errors: Errors = Errors(), difficulty: Difficulty = Difficulty()
) -> tuple[Case, Outcome]:
    rng = random.Random(seed)
    case = make_brief(rng, difficulty).case()
    return case, Outcome(write(Brief.of(case), Corpus(rng, errors).paper(Brief.of(case))))


@given(seeds)
def test_a_written_paper_reads_back(seed: int) -> None:
    case, outcome = example(seed)
    brief = Brief.of(case)
    assert write(brief, read(brief, outcome.text)) == outcome.text


@given(seeds)
def test_a_brief_survives_json(seed: int) -> None:
    case, _ = example(seed)
    again = Case(case.prompt, json.loads(json.dumps(dict(case.data))))
    assert Brief.of(again) == Brief.of(case)
    assert again.id == case.id


@given(seeds)
def test_without_errors_everything_is_true(seed: int) -> None:
    case, outcome = example(seed, CLEAN)
    assert score(facts(case, outcome)) == 1.0
    for role in ("writing", "novelty", "experiments", "proofs"):
        for framed in FRAMES[role](case, outcome):
            answer = Outcome(Corpus(random.Random(seed), CLEAN).critique(role, framed))
            assert all(f.holds for f in FINDINGS[role](framed, answer))


FINDINGS = {
    "writing": critique.findings_writing,
    "novelty": critique.findings_novelty,
    "experiments": critique.findings_chains,
    "proofs": critique.findings_chains,
}


@given(seeds)
def test_a_faultless_critic_finds_what_is_wrong_and_only_that(seed: int) -> None:
    """...up to composite steps whose errors cancel, which only taking the step apart can see."""
    case, outcome = example(seed)
    truth = {fact.name: fact for fact in facts(case, outcome)}
    for role, findings in FINDINGS.items():
        for framed in FRAMES[role](case, outcome):
            answer = Outcome(Corpus(random.Random(seed), CLEAN).critique(role, framed))
            for finding in findings(framed, answer):
                if finding.holds and truth[finding.fact].parts:
                    continue
                assert finding.holds == matter(truth[finding.fact]), (role, finding)
                if finding.part is not None:
                    assert not matter(truth[finding.fact].parts[finding.part])


@given(seeds)
def test_taking_a_step_apart_finds_the_part_that_fails(seed: int) -> None:
    case, outcome = example(seed)
    truth = {fact.name: fact for fact in facts(case, outcome)}
    corpus = Corpus(random.Random(seed), CLEAN)
    for parent in ("proofs", "experiments"):
        for framed in FRAMES[parent](case, outcome):
            for sub in critique.frame_steps(framed, Outcome(corpus.critique(parent, framed))):
                answer = Outcome(corpus.critique("steps", sub))
                (finding,) = critique.findings_steps(sub, answer)
                assert finding.holds == matter(truth[finding.fact])
                assert all(is_true(fact) for fact in critique.facts_steps(sub, answer))


@given(seeds, st.integers(0, 10**6))
def test_a_critics_verdict_is_true_iff_it_agrees_with_the_matter(seed: int, other: int) -> None:
    case, outcome = example(seed)
    truth = {fact.name: matter(fact) for fact in facts(case, outcome)}
    for framed in critique.frame_proofs(case, outcome):
        answer = Outcome(Corpus(random.Random(other), Errors(critic=0.5)).critique("proofs", framed))
        verdicts = {f.fact: f.holds for f in critique.findings_chains(framed, answer)}
        for fact in critique.facts_chains("proofs")(framed, answer):
            assert is_true(fact) == (verdicts[fact.name] == truth[fact.name])


@given(seeds, st.data())
def test_mangled_papers_are_malformed_or_still_readable(seed: int, data: st.DataObject) -> None:
    case, outcome = example(seed)
    words = outcome.text.split()
    at = data.draw(st.integers(0, len(words) - 1))
    words[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.lists(st.sampled_from(vocabulary()), max_size=3)
    )
    try:
        found = facts(case, Outcome(" ".join(words)))
    except Malformed as error:
        assert "word" in str(error) or "asks for" in str(error)
    else:
        assert 0 <= score(found) <= 1


@pytest.mark.parametrize(
    "text", ["", "title", "title owl . " * 500, "\x00\x1b[31m", "the dogs", "ö" * 10_000]
)
def test_hostile_outcomes_are_malformed(text: str) -> None:
    case, paper_ = example(1)
    with pytest.raises(Malformed):
        facts(case, Outcome(text))
    for role, findings in FINDINGS.items():
        for framed in FRAMES[role](case, paper_):
            with pytest.raises(Malformed):
                findings(framed, Outcome(text))


def test_a_brief_that_asks_for_no_proof_leaves_the_aspect_out() -> None:
    rng = random.Random(0)
    brief = replace(make_brief(rng), needs=("experiment",))
    paper = replace(Corpus(rng, CLEAN).paper(brief), proof=None)
    case, outcome = brief.case(), Outcome(write(brief, paper))
    assert critique.frame_proofs(case, outcome) == []
    assert "proofs" not in aspects(facts(case, outcome))
    with pytest.raises(Malformed, match="asks for"):
        read(replace(brief, needs=("proof",)), outcome.text)


def test_the_surface_carries_no_truth() -> None:
    """Papers with confident words or padding are as right as those without, in the corpus."""
    by: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(1500):
        case, outcome = example(seed)
        by[surface(case, outcome)["confident"] > 0].append(score(facts(case, outcome)))
    means = {key: sum(values) / len(values) for key, values in by.items()}
    assert abs(means[True] - means[False]) < 0.03


def test_the_corpus_is_as_wrong_as_published() -> None:
    wrong = {"writing": 0.0, "novelty": 0.0, "simple": 0.0}
    n = 1500
    for seed in range(n):
        case, outcome = example(seed)
        found = {fact.name: is_true(fact) for fact in facts(case, outcome)}
        wrong["writing"] += (not found["verb0"]) / n
        wrong["novelty"] += (not found["novel"]) / n
    errors = Errors()
    assert abs(wrong["writing"] - errors.agreement) < 0.04
    assert abs(wrong["novelty"] - errors.known) < 0.04


def test_every_word_is_in_the_vocabulary() -> None:
    words, corpus = set(vocabulary()), Corpus(random.Random(0), difficulty=Difficulty(6, 4, 2, 4, 6))
    for role in ROLES:
        for _ in range(100):
            assert set(" ".join(corpus.document(role)).split()) <= words


def test_harder_briefs_are_longer() -> None:
    easy, hard = (
        sum(len(example(seed, difficulty=d)[1].text.split()) for seed in range(50))
        for d in (Difficulty(2, 2), Difficulty(8, 4, 3, 5, 8))
    )
    assert hard > 1.5 * easy


def test_draws_depend_on_the_key_and_the_split_only() -> None:
    briefs = Briefs(seed=3)
    assert briefs.draw(5, "a") == briefs.draw(5, "a")
    assert briefs.draw(5, "a") != briefs.draw(5, "b")
    held = {case.prompt for case in Briefs(3, "held-out").draw(300, "a")}
    assert not held & {case.prompt for case in briefs.draw(300, "a")}


@given(st.integers(0, 9), st.sampled_from(OPERATIONS))
def test_arithmetic_is_modulo_ten(value: int, operation: str) -> None:
    assert apply(value, operation) == eval(f"{value}{operation}") % 10  # the world's words are Python's
