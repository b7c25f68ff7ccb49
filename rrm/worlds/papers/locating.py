"""Where in a text the facts are that assistants point at, and where its sections are: for showing it, and for judging
sections by themselves."""

from __future__ import annotations

import re

from rrm.core.records import Case, Outcome
from rrm.worlds.papers.brief import Brief, Chain
from rrm.worlds.papers.critique import read_chains
from rrm.worlds.papers.paper import PADDING, agreement_names, read

Places = dict[str, tuple[int, int]]


def locate(case: Case, outcome: Outcome) -> Places:
    """Every fact of a paper, and the parts of composite ones, in its text. Raises `Malformed`."""
    brief = Brief.of(case)
    paper = read(brief, outcome.text)
    words = _words(outcome.text)
    places: Places = {"novel": words[1]}  # title X
    verb = 9 if paper.sentence.confident else 8  # title X . the S near the O [confident] V and V it .
    for name, at in zip(agreement_names(), (verb, verb + 2), strict=True):
        places[name] = words[at]
    at = verb + 5 + (len(PADDING.split()) if paper.padded else 0)
    if paper.proof is not None:
        at += 2  # proof 5
        for i in range(len(brief.proof.steps)):
            at = _chain(places, words, at + 1, f"step{i}", brief.proof, i)
        at += 1  # .
    if paper.experiment is not None:
        for i, series in enumerate(brief.data):
            at = _chain(places, words, at + 2, f"series{i}", series, 0)  # "experiment 3" or "| 7"
    return places


def divide(case: Case, outcome: Outcome) -> Places:
    """A paper's sections: the abstract, with the title, and the proof and the experiment, those that it has. Raises
    `Malformed`."""
    paper = read(Brief.of(case), outcome.text)
    words = _words(outcome.text)
    named = {"abstract": True, "proof": paper.proof is not None, "experiment": paper.experiment is not None}
    heads = (i for i, (first, last) in enumerate(words) if outcome.text[first:last] in ("proof", "experiment"))
    begins = [0, *(i for i in heads if i > 1)]  # a title may be any word
    ends = [*begins[1:], len(words)]
    sections = [name for name, there in named.items() if there]
    return {
        name: (words[first][0], words[last - 1][1])
        for name, first, last in zip(sections, begins, ends, strict=True)
    }


def locate_chains(case: Case, outcome: Outcome) -> Places:
    """Every verdict of a critique of chains, in its text: "5 +4 9 | 9 *3 -2 5 ." Raises `Malformed`."""
    read_chains(case, outcome)
    words = _words(outcome.text)
    places: Places = {}
    at = 0
    for step in case.data["steps"]:
        end = at + len(step["operations"]) + 2
        places[step["name"]] = (words[at][0], words[end - 1][1])
        at = end + 1
    return places


def _chain(
    places: Places, words: list[tuple[int, int]], at: int, name: str, chain: Chain, step: int
) -> int:
    """One step, "+4 9 *3 7", from word `at`: it and its parts. Returns the word after it."""
    count = len(chain.steps[step])
    places[name] = (words[at][0], words[at + 2 * count - 1][1])
    if count > 1:
        for j in range(count):
            places[f"{name}.{j}"] = (words[at + 2 * j][0], words[at + 2 * j + 1][1])
    return at + 2 * count


def _words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]
