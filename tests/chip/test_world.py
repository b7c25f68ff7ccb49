"""The chip world: what is written reads back, facts are what the simulation says, the corpus is as wrong as it says."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm.core.errors import Malformed, SealedOracle
from rrm.core.records import Case, Fact, Outcome
from rrm.measure.oracle import aspects, is_true, matter, score
from rrm.measure.skills import CHIP
from rrm.worlds.chip import (
    Cache,
    Difficulty,
    Numbers,
    Spec,
    Specs,
    critique,
    facts,
    locate,
    read,
    simulate,
    surface,
    write,
)
from rrm.worlds.chip.corpus import FRAMES, ROLES, Corpus, Errors, to_step, vocabulary
from rrm.worlds.chip.design import Design, facts_of
from rrm.worlds.chip.simulation import agree, benchmark, leak
from rrm.worlds.chip.supply import make_spec, solved

seeds = st.integers(0, 39)  # few, so that each is simulated once
CLEAN = Errors(claim=0, critic=0)
GOALS = {"fast", "cool", "lasts", "safe"}
FINDINGS = {
    "benchmark": critique.findings_benchmark,
    "heat": critique.findings_heat,
    "lifetime": critique.findings_lifetime,
    "security": critique.findings_security,
}


@cache
def example(seed: int, errors: Errors = Errors(), difficulty: Difficulty = Difficulty()) -> tuple[Case, Outcome]:
    rng = random.Random(seed)
    case = make_spec(rng, difficulty).case()
    return case, Outcome(Corpus(rng, errors).write("chip", case))


def critics(case: Case, outcome: Outcome) -> list[tuple[str, Case]]:
    return [(role, framed) for role, frame in FRAMES.items() for framed in frame(case, outcome)]


# --- texts -------------------------------------------------------------------------------------------


@given(seeds)
def test_a_written_design_reads_back(seed: int) -> None:
    case, outcome = example(seed)
    spec = Spec.of(case)
    design = read(spec, outcome.text)
    assert write(spec, design) == outcome.text
    assert read(spec, write(spec, design)) == design


@given(seeds)
def test_a_specification_survives_json(seed: int) -> None:
    case, outcome = example(seed)
    again = Case(case.prompt, json.loads(json.dumps(dict(case.data))))
    assert Spec.of(again) == Spec.of(case) and again.id == case.id
    for _, framed in critics(case, outcome):
        again = Case(framed.prompt, json.loads(json.dumps(dict(framed.data))))
        assert critique.behind(again) == critique.behind(framed) and again.id == framed.id


def test_blanks_and_capitals_do_not_matter() -> None:
    """As an instruction-tuned model would write it."""
    case, outcome = example(3)
    spec = Spec.of(case)
    loose = outcome.text.replace(" ,", ",").replace(" .", ".").replace(" kB", "kB").replace("cache", "Cache")
    assert loose != outcome.text
    assert replace(read(spec, loose), confident="") == replace(read(spec, outcome.text), confident="")


@given(seeds, st.data())
def test_mangled_designs_are_malformed_or_still_readable(seed: int, data: st.DataObject) -> None:
    case, outcome = example(seed)
    words = outcome.text.split()
    at = data.draw(st.integers(0, len(words) - 1))
    words[at : at + data.draw(st.integers(0, 2))] = data.draw(st.lists(st.sampled_from(vocabulary()), max_size=3))
    try:
        found = facts(case, Outcome(" ".join(words)))
    except Malformed as error:
        assert "word" in str(error) or "asks for" in str(error) or "domain" in str(error)
    else:
        assert 0 <= score(found) <= 1


HOSTILE = [
    "", "cache", "cache 8 kB , " * 500, "\x00\x1b[31m", "ö" * 10_000, "9" * 100_000, "cache ٣ kB", "cache 8e3 kB",
    "cache -8 kB", "cache NaN kB", "cache 8.0 kB", "cache 3 kB", "A hits inf percent", "power 0.5 + 0.5 W , 1e9 C .",
    "leak 2.0 bits .", "100 years .", "<fact>true</fact>", "years .",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_outcomes_are_malformed(text: str) -> None:
    case, outcome = next(e for e in map(example, range(40)) if Spec.of(e[0]).noise is not None)
    with pytest.raises(Malformed):
        facts(case, Outcome(text))
    cases = dict(critics(case, outcome))
    assert cases.keys() == FINDINGS.keys()
    for role, framed in cases.items():
        with pytest.raises(Malformed):
            FINDINGS[role](framed, Outcome(text))
    (segment, _) = critique.frame_segments(cases["benchmark"], Outcome(Corpus(random.Random(0)).write(
        "benchmark", cases["benchmark"]
    )))  # fmt: skip
    with pytest.raises(Malformed):
        critique.findings_segments(segment, Outcome(text))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("cache 8 kB", "cache 64 kB", "at most"),
        ("cache 8 kB", "cache 12 kB", "power of two"),
        ("ways 2", "ways 1", "domain"),
        ("lru", "plru", "lru or fifo or random"),
        ("0.8 V", "5.0 V", "0.6 to 1.3"),
        ("0.8 V", "0.8125 V", "number"),
        (" .", " . yes", "expected 'A', found 'yes'"),
        ("60 C", "60 F", "'C'"),
    ],
)
def test_impossible_designs_say_why(old: str, new: str, why: str) -> None:
    spec = replace(make_spec(random.Random(0), Difficulty(1, 2)), area=16, noise=None)
    text = (
        "cache 8 kB , line 32 B , ways 2 , lru , partitioned , 0.8 V , 1.0 GHz . A hits 50 50 percent , time 3.0 ns , "
        "power 0.5 + 0.5 W , 60 C , 5 years ."
    )
    read(spec, text)
    with pytest.raises(Malformed, match=why):
        read(spec, text.replace(old, new, 1))


def test_the_example_in_the_prompt_has_the_form_that_is_asked_for() -> None:
    for case in Specs(0).draw(20, "examples"):
        read(Spec.of(case), case.prompt.partition("Answer like : ")[2])
        outcome = Outcome(Corpus(random.Random(0)).write("chip", case))
        for role, framed in critics(case, outcome):
            FINDINGS[role](framed, Outcome(framed.prompt.partition("Answer like : ")[2]))


def test_every_word_is_in_the_vocabulary() -> None:
    words, corpus = set(vocabulary()), Corpus(random.Random(0), difficulty=Difficulty(3, 4))
    for role in ROLES:
        for _ in range(40):
            assert set(" ".join(corpus.document(role)).split()) <= words
    names = {fact.name for seed in range(5) for fact in facts(*example(seed))}
    assert names | {"right", "wrong", "N/A", "(", ")", *ROLES} <= words  # assistance is text for the reward model


# --- truth -------------------------------------------------------------------------------------------


@given(seeds)
def test_without_errors_every_claim_is_true(seed: int) -> None:
    case, outcome = example(seed, CLEAN)
    assert all(is_true(fact) for fact in facts(case, outcome) if fact.name not in GOALS)
    for role, framed in critics(case, outcome):
        answer = Outcome(Corpus(random.Random(seed), CLEAN).write(role, framed))
        assert all(f.holds for f in FINDINGS[role](framed, answer) if f.fact not in GOALS)


def test_every_specification_can_be_met() -> None:
    """The reference design, with true claims, has every fact."""
    for seed in range(25):
        spec, reference = solved(random.Random(seed))
        assert score(facts_of(spec, Design(reference, simulate(spec, reference)))) == 1.0


@given(seeds, st.data())
def test_facts_are_what_the_simulation_says(seed: int, data: st.DataObject) -> None:
    """Push one claim out of its tolerance: the fact of that claim fails, and no other changes."""
    case, _ = example(seed)
    spec = Spec.of(case)
    chosen = Corpus(random.Random(seed)).cache(spec)
    found = simulate(spec, chosen)
    kind = data.draw(st.sampled_from(["ns", "switching", "leakage", "celsius", "years"]))
    wrong = replace(found, **{kind: getattr(found, kind) * 1.5 + 4})
    before, after = (
        {f.name: matter(f) for f in facts_of(spec, Design(chosen, said))} for said in (found, wrong)
    )
    name = "watts" if kind in ("switching", "leakage") else kind
    assert after == {**before, name: False}


@given(seeds)
def test_a_faultless_critic_finds_what_is_wrong_and_only_that(seed: int) -> None:
    """...up to numbers at the edge of a tolerance, and phases whose errors cancel in the mean."""
    case, outcome = example(seed)
    truth = {fact.name: fact for fact in facts(case, outcome)}
    spec, design = Spec.of(case), read(Spec.of(case), outcome.text)
    means = {
        name: agree("mean", sum(said) / len(said), sum(found) / len(found))
        for (name, _), said, found in zip(
            spec.named, design.claims.hits, simulate(spec, design.cache).hits, strict=True
        )
    }
    checked = 0
    for role, framed in critics(case, outcome):
        for finding in FINDINGS[role](framed, exact(role, framed)):
            checked += 1
            expected = means.get(finding.fact, matter(truth[finding.fact]))
            assert finding.holds == expected, (role, finding)
            if finding.part is not None:
                assert not matter(truth[finding.fact].parts[finding.part])
    assert checked == len(truth)


def exact(role: str, case: Case) -> Outcome:
    """The simulation's own numbers, to two decimals."""
    spec, design = critique.behind(case)
    n = simulate(spec, design.cache)
    if role == "benchmark":
        means = " , ".join(
            f"{name} mean {sum(hits) / len(hits):.2f} percent"
            for (name, _), hits in zip(spec.named, n.hits, strict=True)
        )
        return Outcome(f"{means} , time {n.ns:.2f} ns .")
    if role == "heat":
        return Outcome(f"power {n.switching:.2f} + {n.leakage:.2f} W , {n.celsius:.2f} C .")
    return Outcome(f"{n.years:.2f} years ." if role == "lifetime" else f"leak {n.bits:.2f} bits .")


@given(seeds)
def test_taking_a_program_apart_finds_the_phase_that_fails(seed: int) -> None:
    case, outcome = example(seed)
    truth = {fact.name: fact for fact in facts(case, outcome)}
    (framed,) = critique.frame_benchmark(case, outcome)
    spec, design = critique.behind(framed)
    for sub in critique.frame_segments(framed, exact("benchmark", framed)):
        name, hits = spec.named[sub.data["program"]][0], simulate(spec, design.cache).hits[sub.data["program"]]
        answer = Outcome(f"{name} hits {' '.join(f'{h:.2f}' for h in hits)} percent .")
        (finding,) = critique.findings_segments(sub, answer)
        assert finding.fact == name and finding.holds == matter(truth[name])
        if finding.part is not None:
            assert not matter(truth[name].parts[finding.part])
        assert all(is_true(fact) for fact in critique.facts_segments(sub, answer))


@given(seeds, st.integers(0, 10**6))
def test_a_critics_verdict_is_true_iff_it_agrees_with_the_matter(seed: int, other: int) -> None:
    case, outcome = example(seed)
    truth = {fact.name: matter(fact) for fact in facts(case, outcome)}
    for role, framed in critics(case, outcome):
        answer = Outcome(Corpus(random.Random(other), Errors(critic=0.5)).write(role, framed))
        verdict = {f.fact: f.holds for f in FINDINGS[role](framed, answer)}
        found = critique.verdicts(FINDINGS[role])(framed, answer)
        assert {fact.name for fact in found} == verdict.keys()
        for fact in found:
            assert is_true(fact) == (verdict[fact.name] == truth[fact.name])


def test_where_there_is_no_attacker_nobody_asks_for_security() -> None:
    rng = random.Random(0)
    spec = make_spec(rng)
    while spec.noise is not None:
        spec = make_spec(rng)
    case = spec.case()
    outcome = Outcome(Corpus(rng).write("chip", case))
    assert critique.frame_security(case, outcome) == []
    assert set(aspects(facts(case, outcome))) == {"benchmark", "heat", "lifetime"}
    with pytest.raises(Malformed):
        facts(case, Outcome(outcome.text.replace(" years .", " years , leak 0.0 bits .")))


def test_facts_repeat_themselves_with_an_empty_memory() -> None:
    case, outcome = example(5)
    before = [(f.name, f.price, matter(f)) for f in facts(case, outcome)]
    benchmark.cache_clear()
    leak.cache_clear()
    assert before == [(f.name, f.price, matter(f)) for f in facts(case, outcome)]


# --- sealing -----------------------------------------------------------------------------------------


def leaves(found: list[Fact]) -> list[Fact]:
    return [leaf for fact in found for leaf in (leaves(list(fact.parts)) if fact.parts else [fact])]


def test_the_truth_is_sealed() -> None:
    case, outcome = example(1)
    found = leaves(facts(case, outcome))
    for role, framed in critics(case, outcome):
        found += leaves(list(CHIP.facts[role](framed, Outcome(Corpus(random.Random(0)).write(role, framed)))))
    assert len(found) > 20
    for fact in found:
        assert fact.truth is not None and repr(fact.truth) == "<sealed>"
        for reading in (lambda fact=fact: bool(fact.truth), lambda fact=fact: fact.truth == True):  # noqa: E712
            with pytest.raises(SealedOracle):
                reading()


@given(seeds)
def test_what_agents_read_depends_on_the_design_and_not_on_the_truth(seed: int) -> None:
    """The same cache with right and with wrong claims: the critics are asked the same; nor do data hold a verdict."""
    case, outcome = example(seed, CLEAN)
    spec = Spec.of(case)
    design = read(spec, outcome.text)
    c = design.claims
    bits = None if c.bits is None else 1 - c.bits
    wrong = Numbers(c.hits, c.ns + 5, c.switching + 5, c.leakage + 5, c.celsius + 50, c.years + 40, bits)
    other = Outcome(write(spec, replace(design, claims=wrong)))
    assert score(facts(case, other)) < score(facts(case, outcome))
    both = zip(critics(case, outcome), critics(case, other), strict=True)
    for (role, mine), (_, theirs) in both:
        assert mine.prompt == theirs.prompt, role
        assert set(mine.data) == {"spec", "design"} and mine.data["design"] == outcome.text


# --- the corpus --------------------------------------------------------------------------------------


def test_the_corpus_is_as_wrong_as_published() -> None:
    corpus = Corpus(random.Random(0))
    claims = answers = wrong = missed = 0
    for _ in range(60):
        case = corpus.case("chip")
        for fact in leaves(facts(case, Outcome(corpus.write("chip", case)))):
            if fact.name not in GOALS:
                claims, wrong = claims + 1, wrong + (not matter(fact))
        segment = corpus.case("segments")
        for fact in critique.facts_segments(segment, Outcome(corpus.write("segments", segment))):
            answers, missed = answers + 1, missed + (not matter(fact))
    assert abs(wrong / claims - Errors().claim) < 0.04
    assert abs(missed / answers - Errors().critic) < 0.08


@given(st.sampled_from(["hits", "mean", "ns", "celsius", "years", "bits"]), st.floats(0, 1), seeds)
def test_wrong_numbers_disagree_and_right_ones_agree(kind: str, value: float, seed: int) -> None:
    value *= {"hits": 100, "mean": 100, "ns": 10, "celsius": 150, "years": 50, "bits": 1}[kind]
    corpus = Corpus(random.Random(seed))
    assert agree(kind, corpus.number(kind, value, 0.0), value)
    assert not agree(kind, corpus.number(kind, value, 1.0), value)
    assert agree(kind, to_step(kind, value), value)


class Frugal(Corpus):
    """Always designs the same cache for a specification, so that little is simulated."""

    def cache(self, spec: Spec) -> Cache:
        return Corpus(random.Random(spec.seed)).cache(spec)


def test_the_surface_carries_no_truth() -> None:
    """Designs with a confident word are as right as those without, in the corpus."""
    by: dict[bool, list[float]] = {True: [], False: []}
    corpus = Frugal(random.Random(1))
    for i in range(600):
        case, _ = example(i % 40)
        outcome = Outcome(corpus.write("chip", case))
        by[surface(case, outcome)["confident"] > 0].append(score(facts(case, outcome)))
    means = {key: sum(values) / len(values) for key, values in by.items()}
    assert len(by[True]) > 100 and abs(means[True] - means[False]) < 0.04


def test_draws_depend_on_the_key_and_the_split_only() -> None:
    specs = Specs(seed=3)
    assert specs.draw(3, "a") == specs.draw(3, "a") != specs.draw(3, "b")
    held = {case.prompt for case in Specs(3, "held-out").draw(20, "a")}
    assert not held & {case.prompt for case in specs.draw(20, "a")}


# --- where it is -------------------------------------------------------------------------------------


@given(seeds)
def test_every_fact_and_part_is_located_where_its_number_is(seed: int) -> None:
    case, outcome = example(seed)
    found = facts(case, outcome)
    places = {name: outcome.text[start:end] for name, (start, end) in locate(case, outcome).items()}
    assert places.keys() == {f.name for fact in found for f in (fact, *fact.parts)}
    design = read(Spec.of(case), outcome.text)
    assert places["A"].startswith("A hits ") and places["A"].endswith(" percent")
    assert float(places["A.1"]) == design.claims.hits[0][1]
    assert float(places["watts.1"]) == design.claims.leakage
    assert places["ns"] == places["fast"] == f"time {design.claims.ns:.1f} ns"
    assert places["cool"] == f"{design.claims.celsius:.0f} C"
