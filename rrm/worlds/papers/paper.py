"""Papers: the outcomes of the papers world, how they are written, read, and what is true of them.

    title owl . the dogs near the star clearly run and help it . proof 5 | +4 9 | *3 7 -2 5 | +6 1 .
    experiment 3 +5 8 +2 0 | 7 +1 8 -4 4 .

Facts: two agreements (writing), one composite novelty, one composite fact per series (experiments), one
fact per proof step, composite where the step has several parts. A sentence may carry confident words and
a paper may be padded with a sentence that says nothing: surface, without truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Outcome, Sealed
from rrm.worlds.papers.brief import NOUNS, VERBS, Brief, Chain, apply

CONFIDENT = ("clearly", "surely")
PADDING = "indeed we know it all ."
PLURAL = {**{s: False for s in NOUNS}, **{p: True for p in NOUNS.values()}}
PLURAL_VERB = {**{s: False for s in VERBS}, **{p: True for p in VERBS.values()}}

Values = tuple[tuple[int, ...], ...]
"""The stated result of every part of every step of a chain."""


@dataclass(frozen=True)
class Sentence:
    """The abstract: "the SUBJECT near the OTHER [clearly] VERB and VERB it ."."""

    subject: str
    other: str
    verbs: tuple[str, str]
    confident: str = ""

    def __str__(self) -> str:
        word = f" {self.confident}" if self.confident else ""
        return f"the {self.subject} near the {self.other}{word} {self.verbs[0]} and {self.verbs[1]} it ."

    def agrees(self, i: int) -> bool:
        """Whether verb `i`, 0 or 1, agrees with the subject in number."""
        return PLURAL[self.subject] == PLURAL_VERB[self.verbs[i]]


@dataclass(frozen=True)
class Paper:
    """A paper's parts; `proof` and `experiment` are None where it has no such section, `padded` says that an empty
    sentence follows the abstract."""

    title: str
    sentence: Sentence
    proof: Values | None
    experiment: Values | None
    padded: bool = False


def write_chain(chain: Chain, values: Values, proof: bool) -> str:
    """A chain with its stated results: "5 | +4 9 | *3 7 -2 5" (a proof), "3 +5 8 +2 0" (a series)."""
    steps = [
        " ".join(f"{op} {value}" for op, value in zip(step, stated, strict=True))
        for step, stated in zip(chain.steps, values, strict=True)
    ]
    return " | ".join([str(chain.start), *steps]) if proof else f"{chain.start} {steps[0]}"


def write(brief: Brief, paper: Paper) -> str:
    """The paper as text: the inverse of `read`."""
    words = [f"title {paper.title} .", str(paper.sentence)]
    if paper.padded:
        words.append(PADDING)
    if paper.proof is not None:
        words.append(f"proof {write_chain(brief.proof, paper.proof, proof=True)} .")
    if paper.experiment is not None:
        series = (
            write_chain(c, (v,), proof=False) for c, v in zip(brief.data, paper.experiment, strict=True)
        )
        words.append(f"experiment {' | '.join(series)} .")
    return " ".join(words)


class PaperReader:
    """Reads words one by one; `Malformed` says where the text leaves the form."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self.at = 0

    def peek(self) -> str:
        """The next word, "<end>" after the last; it stays to be read."""
        return self.words[self.at] if self.at < len(self.words) else "<end>"

    def word(self) -> str:
        """Read the next word, "<end>" after the last."""
        word = self.peek()
        self.at += 1
        return word

    def expect(self, *words: str) -> None:
        """Read these words. Raises `Malformed` at the first that is another."""
        for expected in words:
            if (word := self.word()) != expected:
                raise Malformed(f"word {self.at}: expected {expected!r}, found {word!r}")

    def one_of(self, words: Mapping[str, object], what: str) -> str:
        """Read one of these words; `what` names them in the error. Raises `Malformed` at any other."""
        if (word := self.word()) not in words:
            raise Malformed(f"word {self.at}: expected {what}, found {word!r}")
        return word

    def digit(self) -> int:
        """Read a number of one digit. Raises `Malformed` at anything else."""
        word = self.word()
        if len(word) != 1 or word not in "0123456789":
            raise Malformed(f"word {self.at}: expected a digit, found {word!r}")
        return int(word)

    def end(self) -> None:
        """Raises `Malformed` if a word is left."""
        if self.at < len(self.words):
            raise Malformed(f"word {self.at + 1}: expected the end, found {self.peek()!r}")


def read(brief: Brief, text: str) -> Paper:
    """Parse a paper written for `brief`; raises `Malformed` where it leaves the form or the brief's plan."""
    reader = PaperReader(text)
    reader.expect("title")
    title = reader.word()
    if not title.isalpha():
        raise Malformed(f"word 2: expected a title, found {title!r}")
    reader.expect(".", "the")
    subject = reader.one_of(PLURAL, "a noun")
    reader.expect("near", "the")
    other = reader.one_of(PLURAL, "a noun")
    confident = reader.word() if reader.peek() in CONFIDENT else ""
    first = reader.one_of(PLURAL_VERB, "a verb")
    reader.expect("and")
    second = reader.one_of(PLURAL_VERB, "a verb")
    reader.expect("it", ".")
    if padded := reader.peek() == "indeed":
        reader.expect(*PADDING.split())
    proof: Values | None = None
    if reader.peek() == "proof":
        reader.expect("proof", str(brief.proof.start))
        steps = []
        for step in brief.proof.steps:
            reader.expect("|")
            steps.append(_stated(reader, step))
        reader.expect(".")
        proof = tuple(steps)
    experiment: Values | None = None
    if reader.peek() == "experiment":
        reader.expect("experiment")
        totals = []
        for i, series in enumerate(brief.data):
            reader.expect(*(["|"] if i else []), str(series.start))
            totals.append(_stated(reader, series.steps[0]))
        reader.expect(".")
        experiment = tuple(totals)
    reader.end()
    for need, section in (("proof", proof), ("experiment", experiment)):
        if need in brief.needs and section is None:
            raise Malformed(f"the brief asks for a {need}, the paper has none")
    return Paper(title, Sentence(subject, other, (first, second), confident), proof, experiment, padded)


def _stated(reader: PaperReader, step: tuple[str, ...]) -> tuple[int, ...]:
    values = []
    for operation in step:
        reader.expect(operation)
        values.append(reader.digit())
    return tuple(values)


def parts_right(start: int, operations: tuple[str, ...], stated: tuple[int, ...]) -> list[bool]:
    """Whether each stated result follows from the stated one before it."""
    before = (start, *stated[:-1])
    return [apply(v, op) == result for v, op, result in zip(before, operations, stated, strict=True)]


def starts(chain: Chain, values: Values) -> list[int]:
    """The stated value each step of a proof starts from."""
    return [chain.start, *(stated[-1] for stated in values[:-1])]


def chain_fact(name: str, aspect: str, right: list[bool], claims: bool = True) -> Fact:
    """The fact that a step holds (`claims`) or does not: composite unless it has one part."""
    if len(right) == 1:
        return Fact(name, aspect, Sealed(right[0]), claims=claims)
    parts = tuple(Fact(f"{name}.{j}", aspect, Sealed(ok)) for j, ok in enumerate(right))
    return Fact(name, aspect, parts=parts, claims=claims)


def agreement_names() -> tuple[str, str]:
    """The names of the two facts of writing, in the order of the verbs."""
    return "verb0", "verb1"


def novelty_parts(brief: Brief, title: str) -> list[bool]:
    """Per known idea, whether the title is another."""
    return [title != known for known in brief.known]


def proof_parts(brief: Brief, proof: Values) -> dict[str, list[bool]]:
    """Fact name -> which parts of that step are right."""
    begin = starts(brief.proof, proof)
    return {f"step{i}": parts_right(begin[i], step, proof[i]) for i, step in enumerate(brief.proof.steps)}


def experiment_parts(brief: Brief, experiment: Values) -> dict[str, list[bool]]:
    """Fact name -> which parts of that series' total are right."""
    return {
        f"series{i}": parts_right(chain.start, chain.steps[0], experiment[i])
        for i, chain in enumerate(brief.data)
    }


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """Everything checkable about a paper, cheap or not. Raises `Malformed`."""
    brief = Brief.of(case)
    paper = read(brief, outcome.text)
    found = [
        Fact(name, "writing", Sealed(paper.sentence.agrees(i))) for i, name in enumerate(agreement_names())
    ]
    found.append(chain_fact("novel", "novelty", novelty_parts(brief, paper.title)))
    if paper.experiment is not None:
        parts = experiment_parts(brief, paper.experiment)
        found += [chain_fact(name, "experiments", right) for name, right in parts.items()]
    if paper.proof is not None:
        parts = proof_parts(brief, paper.proof)
        found += [chain_fact(name, "proofs", right) for name, right in parts.items()]
    return found


def surface(case: Case, outcome: Outcome) -> dict[str, float]:
    """What a hurried reader likes: confident words, and length in tens of words."""
    words = outcome.text.split()
    return {"confident": float(sum(w in CONFIDENT for w in words)), "length": len(words) / 10}
