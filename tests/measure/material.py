"""Papers with assistance on them, without a model: the corpus's papers, and assistants that see the truth."""

from __future__ import annotations

import random
from dataclasses import replace

from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.measure.arms import differing
from rrm.measure.oracle import matter
from rrm.measure.stage import Material
from rrm.worlds.papers import Briefs
from rrm.worlds.papers.brief import Brief
from rrm.worlds.papers.corpus import Corpus
from rrm.worlds.papers.paper import write
from rrm_tasks.paper import paper

TASK: Task = plant(paper())


def examined(case: Case, outcome: Outcome) -> tuple[Assistance, ...]:
    """Per aspect an assistant that says what holds; under `proofs` and `experiments` one that points at the part."""
    by: dict[str, list[Finding]] = {}
    below: dict[str, list[Finding]] = {}
    for fact in TASK.facts(case, outcome):
        by.setdefault(fact.aspect, []).append(Finding(fact.name, matter(fact)))
        if fact.parts:
            wrong = [k for k, part in enumerate(fact.parts) if not matter(part)]
            below.setdefault(fact.aspect, []).append(Finding(fact.name, not wrong, wrong[0] if wrong else None))
    return tuple(
        said(
            f"paper/{aspect}",
            case,
            outcome,
            found,
            said(f"paper/{aspect}/steps", case, outcome, below.get(aspect, [])),
        )
        for aspect, found in by.items()
    )


def said(by: str, case: Case, outcome: Outcome, findings: list[Finding], *below: Assistance) -> Assistance:
    asked = Case(f"{by} {outcome.text}", {"of": case.id})
    answer = Answer(asked, Outcome(" ".join(map(str, findings)), (1, 2, 3)), tuple(findings), None, below)
    return Assistance(by, "1", (answer,))


def groups(n: int, key: str) -> list[Group]:
    found = []
    for case in Briefs(0, key).draw(n, key):
        corpus, brief = Corpus(random.Random(case.id)), Brief.of(case)
        found.append(Group(case, tuple(Outcome(write(brief, corpus.paper(brief))) for _ in range(4))))
    return found


def alone(held: int = 60, practice: int = 20) -> Material:
    return Material(differing(TASK, groups(held, "held")), differing(TASK, groups(practice, "practice")))


def assisted(material: Material) -> Material:
    return material.each(
        lambda some: replace(
            some,
            groups=[replace(g, assistance=tuple(examined(g.case, o) for o in g.outcomes)) for g in some.groups],
        )
    )
