"""What a language model can do in each role of the papers world before anything is trained on it.

A score is the mean share of facts that hold in sampled outcomes; one that does not parse scores 0 here
(this measures skill; it is no judgement).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from rrm.measure.oracle import share_true
from rrm.task import Case, Malformed, Outcome
from rrm.worlds.papers import critique, paper
from rrm.worlds.papers.brief import Brief, make_brief
from rrm.worlds.papers.corpus import FRAMES, Corpus

FACTS: dict[str, Callable[..., Any]] = {
    "paper": paper.facts,
    "writing": critique.facts_writing,
    "novelty": critique.facts_novelty,
    "experiments": critique.facts_chains("experiments"),
    "proofs": critique.facts_chains("proofs"),
    "steps": critique.facts_steps,
}


def cases_for(role: str, n: int, seed: int) -> list[Case]:
    """Held-out cases of a role, framed from faulty papers at the default difficulty."""
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


def rate(role: str, cases: list[Case], texts: list[str]) -> float:
    total = 0.0
    for case, text in zip(cases, texts, strict=True):
        try:
            total += share_true(FACTS[role](case, Outcome(text)))
        except Malformed:
            continue
    return round(total / len(cases), 3)


def corpus_skill(seed: int, n: int = 400) -> dict[str, float]:
    """The skill of the hurried people who wrote the corpus."""
    scores = {}
    for role in FACTS:
        corpus = Corpus(random.Random(f"corpus {role} {seed}"))
        cases = cases_for(role, n, seed)
        if role == "paper":
            texts = [paper.write(Brief.of(case), corpus.paper(Brief.of(case))) for case in cases]
        else:
            texts = [corpus.critique(role, case) for case in cases]
        scores[role] = rate(role, cases, texts)
    return scores


@torch.inference_mode()
def skill(model: Any, tokenizer: Any, seed: int, n: int = 60) -> dict[str, float]:
    """The skill of a causal language model, sampling at temperature 1."""
    scores, was_training = {}, model.training
    model.eval()
    torch.manual_seed(seed)
    for role in FACTS:
        cases = cases_for(role, n, seed)
        batch = tokenizer(
            [case.prompt for case in cases], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False, return_token_type_ids=False,
        )  # fmt: skip
        out = model.generate(
            **batch, do_sample=True, top_k=0, max_new_tokens=80, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        scores[role] = rate(role, cases, texts)
    model.train(was_training)
    return scores
