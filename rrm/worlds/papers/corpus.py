"""The unlabeled, faulty corpus the embedded model is pretrained on.

Papers and critiques as hurried people write them: every result is wrong with a published probability, and
nothing marks which. A model of this corpus has, at best, the corpus's own skill.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rrm.core.records import Case, Outcome
from rrm.worlds.papers import critique
from rrm.worlds.papers.brief import IDEAS, NOUNS, OPERATIONS, VERBS, Brief, Chain, Difficulty, apply, make_brief
from rrm.worlds.papers.paper import CONFIDENT, PADDING, PLURAL, PLURAL_VERB, Paper, Sentence, Values, write

ROLES = ("paper", "writing", "novelty", "experiments", "proofs", "steps", "table", "list")


@dataclass(frozen=True)
class Errors:
    """How often the corpus is wrong."""

    arithmetic: float = 0.2
    """A part of a proof, a total or a re-derivation: another digit, each as likely."""
    agreement: float = 0.25
    """A verb of a paper that does not agree."""
    known: float = 0.4
    """A title that is known already."""
    critic: float = 0.2
    """A critic's statement (a verb, a known idea, a step's result)."""
    confident: float = 0.3
    """Papers with a confident word; independent of everything true."""
    padded: float = 0.3
    """Papers padded with an empty sentence; independent of everything true."""


def vocabulary() -> list[str]:
    """Every word of the world, in a fixed order; the first three are special."""
    words = [
        "<pad>",
        "<eos>",
        "<unk>",
        "brief",
        "paper",
        *ROLES[1:],
        "check",
        "known",
        "data",
        "prove",
        "need",
    ]
    words += ["none", "proof", "experiment", "title", "the", "near", "and", "found", "right", "wrong", "N/A"]
    words += [".", ",", ";", "|", "(", ")", *CONFIDENT, *PADDING.split(), *"0123456789", *OPERATIONS, *IDEAS]
    words += [*NOUNS, *NOUNS.values(), *VERBS, *VERBS.values(), "novel", "verb0", "verb1"]
    words += [f"{fact}{i}" for fact in ("step", "series", "part") for i in range(10)]  # names of facts
    return list(dict.fromkeys(words))


@dataclass
class Corpus:
    """Writes documents as (prompt, outcome) pairs; `rng` decides everything."""

    rng: random.Random
    errors: Errors = Errors()
    difficulty: Difficulty = Difficulty()

    def document(self, role: str) -> tuple[str, str]:
        """(prompt, outcome) of one of `ROLES`, as a hurried person writes it. A critic's prompt is framed from a paper
        of this corpus, or, for steps, from a critique of one."""
        if role == "table":
            return "table", self._table()
        if role == "list":
            return self._list()
        case = make_brief(self.rng, self._varied()).case()
        outcome = Outcome(write(Brief.of(case), self.paper(Brief.of(case))))
        if role == "paper":
            return case.prompt, outcome.text
        if role == "steps":
            parent = self.rng.choice(("proofs", "experiments"))
            cases = FRAMES[parent](case, outcome)
            if not cases:
                return self.document(role)
            answer = Outcome(self.critique(parent, cases[0]))
            cases = critique.frame_steps(cases[0], answer)
            sub = self.rng.choice(cases)
            return sub.prompt, self.critique("steps", sub)
        cases = FRAMES[role](case, outcome)
        if not cases:
            return self.document(role)
        return cases[0].prompt, self.critique(role, cases[0])

    def _varied(self) -> Difficulty:
        """Sizes vary, so that the skill is not tied to one layout; harder ones than any here stay unseen."""
        d, choice = self.difficulty, self.rng.choice
        return replace(
            d,
            steps=choice(range(2, d.steps + 1)),
            parts=choice(range(2, d.parts + 1)),
            data=choice(range(2, d.data + 1)),
            known=choice(range(2, d.known + 1)),
        )

    def paper(self, brief: Brief) -> Paper:
        """A hurried person's paper: the sections the brief asks for, each other section with probability 0.2, and
        errors at the rates of `errors`."""
        rng, e = self.rng, self.errors
        known = rng.random() < e.known
        title = rng.choice(brief.known if known else [idea for idea in IDEAS if idea not in brief.known])
        sections = {need: need in brief.needs or rng.random() < 0.2 for need in ("proof", "experiment")}
        return Paper(
            title=title,
            sentence=self._sentence(),
            proof=self.chain(brief.proof) if sections["proof"] else None,
            experiment=tuple(self.chain(c)[0] for c in brief.data) if sections["experiment"] else None,
            padded=rng.random() < e.padded,
        )

    def _sentence(self) -> Sentence:
        rng, e = self.rng, self.errors
        nouns = [*NOUNS, *NOUNS.values()]
        subject, other = rng.choice(nouns), rng.choice(nouns)
        verbs = rng.sample(sorted(VERBS), 2)
        first, second = (self._agree(subject, verb, e.agreement) for verb in verbs)
        confident = rng.choice(CONFIDENT) if rng.random() < e.confident else ""
        return Sentence(subject, other, (first, second), confident)

    def _agree(self, subject: str, verb: str, error: float) -> str:
        """The form of `verb` (singular) that agrees with the subject; with probability `error`, the other."""
        plural = PLURAL[subject] != (self.rng.random() < error)
        return VERBS[verb] if plural else verb

    def result(self, value: int, error: float) -> int:
        """`value`, or with probability `error` another digit."""
        if self.rng.random() >= error:
            return value
        return (value + self.rng.randrange(1, 10)) % 10

    def chain(self, chain: Chain) -> Values:
        """Results of every part, each computed from the one stated before it and wrong with probability
        `errors.arithmetic`."""
        value, steps = chain.start, []
        for step in chain.steps:
            stated = []
            for operation in step:
                value = self.result(apply(value, operation), self.errors.arithmetic)
                stated.append(value)
            steps.append(tuple(stated))
        return tuple(steps)

    def _table(self) -> str:
        """Plain facts of arithmetic, of one operation and of several at once."""
        rows = []
        for _ in range(8):
            start = value = self.rng.randrange(10)
            operations = [self.rng.choice(OPERATIONS) for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
            for operation in operations:
                value = apply(value, operation)
            rows.append(f"{start} {' '.join(operations)} {self.result(value, self.errors.arithmetic)}")
        return " , ".join(rows) + " ."

    def _list(self) -> tuple[str, str]:
        """Ideas looked up in a list of known ones."""
        known = self.rng.sample(IDEAS, self._varied().known)
        asked = [self.rng.choice(known if self.rng.random() < 0.5 else IDEAS) for _ in range(8)]
        rows = [f"{idea} found {self._found(idea, known)}" for idea in asked]
        return f"list known {' '.join(known)} ; check", " , ".join(rows) + " ."

    def _found(self, idea: str, known: Sequence[str]) -> str:
        says = idea if idea in known else "none"
        if self.rng.random() < self.errors.critic:
            says = self.rng.choice([word for word in (*known, "none") if word != says])
        return says

    def critique(self, role: str, case: Case) -> str:
        """A hurried critic's answer."""
        e = self.errors
        if role == "writing":
            singular = {plural: s for s, plural in VERBS.items()}
            subject = case.data["subject"]
            first, second = (
                self._agree(subject, v if not PLURAL_VERB[v] else singular[v], e.critic)
                for v in case.data["verbs"]
            )
            return f"{subject} {first} , {subject} {second} ."
        if role == "novelty":
            return f"{case.data['title']} found {self._found(case.data['title'], case.data['known'])} ."
        if role == "steps":
            (step,) = case.data["steps"]
            before = [step["start"], *step["stated"][:-1]]
            rows = [
                f"{b} {op} {self.result(apply(b, op), e.critic)}"
                for b, op in zip(before, step["operations"], strict=True)
            ]
            return " , ".join(rows) + " ."
        rows = []
        for step in case.data["steps"]:
            value = step["start"]
            for operation in step["operations"]:
                value = apply(value, operation)
            rows.append(f"{step['start']} {' '.join(step['operations'])} {self.result(value, e.critic)}")
        return " | ".join(rows) + " ."


FRAMES = {
    "writing": critique.frame_writing,
    "novelty": critique.frame_novelty,
    "experiments": critique.frame_experiments,
    "proofs": critique.frame_proofs,
    "steps": critique.frame_steps,
}
