"""What a language model can do in each role of a world before anything is trained on it.

A score is the mean share of facts that hold in sampled outcomes; one that does not parse scores 0 here
(this measures skill; it is no judgement).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rrm.core.errors import Malformed
from rrm.core.records import Case, Outcome
from rrm.core.task import Facts
from rrm.measure.oracle import share_true
from rrm.worlds import chip
from rrm.worlds.chip import corpus as chip_corpus
from rrm.worlds.chip import critique as chip_critique
from rrm.worlds.games import corpus as games_corpus
from rrm.worlds.papers import critique, paper
from rrm.worlds.papers.brief import Brief, make_brief
from rrm.worlds.papers.corpus import FRAMES, Corpus


@dataclass(frozen=True)
class Skills:
    """A world's roles.

    facts: of a role's outcomes. cases: (role, n, seed) -> held-out cases, framed from the corpus's faulty texts.
    write: (role, cases, rng) -> what the corpus's hurried people answer.
    """

    facts: Mapping[str, Facts]
    cases: Callable[[str, int, int], list[Case]]
    write: Callable[[str, Sequence[Case], random.Random], list[str]]


def paper_cases(role: str, n: int, seed: int) -> list[Case]:
    """At the default difficulty."""
    rng = random.Random(f"skill {role} {seed}")
    corpus = Corpus(rng)
    cases: list[Case] = []
    while len(cases) < n:
        case = make_brief(rng).case()
        if role == "paper":
            cases.append(case)
            continue
        outcome = Outcome(paper.write(Brief.of(case), corpus.paper(Brief.of(case))))
        parent = rng.choice(("proofs", "experiments")) if role == "steps" else role
        framed = FRAMES[parent](case, outcome)
        if framed and role == "steps":
            framed = critique.frame_steps(framed[0], Outcome(corpus.critique(parent, framed[0])))
        cases += framed
    return cases[:n]


def paper_texts(role: str, cases: Sequence[Case], rng: random.Random) -> list[str]:
    """The corpus's answers, a text per case; `rng` decides all of them."""
    corpus = Corpus(rng)
    if role == "paper":
        return [paper.write(Brief.of(case), corpus.paper(Brief.of(case))) for case in cases]
    return [corpus.critique(role, case) for case in cases]


PAPERS = Skills(
    {
        "paper": paper.facts,
        "writing": critique.facts_writing,
        "novelty": critique.facts_novelty,
        "experiments": critique.facts_chains("experiments"),
        "proofs": critique.facts_chains("proofs"),
        "steps": critique.facts_steps,
    },
    paper_cases,
    paper_texts,
)


def chip_cases(role: str, n: int, seed: int) -> list[Case]:
    """At the default difficulty; a critic's are framed from the corpus's designs."""
    corpus = chip_corpus.Corpus(random.Random(f"skill {role} {seed}"))
    return [corpus.case(role) for _ in range(n)]


def chip_texts(role: str, cases: Sequence[Case], rng: random.Random) -> list[str]:
    """The corpus's answers, a text per case; `rng` decides all of them."""
    corpus = chip_corpus.Corpus(rng)
    return [corpus.write(role, case) for case in cases]


CHIP = Skills(
    {
        "chip": chip.facts,
        "benchmark": chip_critique.verdicts(chip_critique.findings_benchmark),
        "segments": chip_critique.facts_segments,
        "heat": chip_critique.verdicts(chip_critique.findings_heat),
        "lifetime": chip_critique.verdicts(chip_critique.findings_lifetime),
        "security": chip_critique.verdicts(chip_critique.findings_security),
    },
    chip_cases,
    chip_texts,
)


def game_cases(role: str, n: int, seed: int) -> list[Case]:
    """Positions drawn at random; a role is a game, a verdict or a line."""
    corpus = games_corpus.Corpus(random.Random(f"skill {role} {seed}"))
    return [corpus.case(role) for _ in range(n)]


def game_texts(role: str, cases: Sequence[Case], rng: random.Random) -> list[str]:
    """Random legal moves; `rng` decides all of them."""
    corpus = games_corpus.Corpus(rng)
    return [corpus.write(role, case) for case in cases]


GAMES = Skills(dict.fromkeys(games_corpus.ROLES, games_corpus.legal), game_cases, game_texts)
"""The skill of writing a legal move: there is no other before anything is trained."""


def rate(facts: Facts, cases: Sequence[Case], texts: Sequence[str]) -> float:
    """Mean share of true facts over the cases, 0 to 1, to three decimals; 0 for a text that does not parse."""
    total = 0.0
    for case, text in zip(cases, texts, strict=True):
        try:
            total += share_true(facts(case, Outcome(text)))
        except Malformed:
            continue
    return round(total / len(cases), 3)


def corpus_skill(seed: int, n: int = 400, world: Skills = PAPERS) -> dict[str, float]:
    """The skill of the hurried people who wrote the corpus."""
    scores = {}
    for role, facts in world.facts.items():
        cases = world.cases(role, n, seed)
        scores[role] = rate(facts, cases, world.write(role, cases, random.Random(f"corpus {role} {seed}")))
    return scores


@torch.inference_mode()
def skill(model: Any, tokenizer: Any, seed: int, n: int = 60, world: Skills = PAPERS) -> dict[str, float]:
    """The skill of a causal language model, sampling at temperature 1."""
    scores, was_training = {}, model.training
    model.eval()
    torch.manual_seed(seed)
    for role, facts in world.facts.items():
        cases = world.cases(role, n, seed)
        batch = tokenizer(
            [case.prompt for case in cases], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False, return_token_type_ids=False,
        )  # fmt: skip
        out = model.generate(
            **batch, do_sample=True, top_k=0, max_new_tokens=80, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        scores[role] = rate(facts, cases, texts)
    model.train(was_training)
    return scores
