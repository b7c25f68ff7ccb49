"""Answer a question about a passage; with help, judge an answer. A tree in words, small enough to be read whole.

passage
├── supported     is all that the answer says also said in the passage?
│   └── pointed   is what that critic calls wrong really not said there?
└── complete      does it answer the question?

docs/a-tree-in-words.md goes through it; `rrm new mine.py --from passage` makes it yours.
"""

from __future__ import annotations

import re

from rrm import Case, Fact, Judgement, Malformed, Outcome, Pair, Pool, Sealed, Settings, Task, User
from rrm_assistants.text.critic import critic, material

PASSAGES = (
    ("The old mill stands on the Orla. It was built in 1812 by two brothers and burned down once, in 1870. Since 1902 "
     "it has made electricity for the village.", "What does the mill do today?", "electricity"),
    ("The choir meets on Fridays at seven in the school, because the church is being painted. In May it goes back to "
     "the church.", "Where does the choir meet now?", "school"),
    ("Ann planted twelve apple trees. Three died in the dry summer, and a neighbor gave her one more in autumn.",
     "How many apple trees did Ann lose?", "three"),
    ("The ferry leaves every hour until eight. On Sundays there is no ferry before ten, and the last one is at six.",
     "When is the last ferry on Sundays?", "six"),
)  # fmt: skip
"""Passage, question, a word that the answer needs; made up."""
SETTINGS = Settings(
    rounds=1, cases=4, outcomes=2, comparisons=4, frame_cases=0, max_tokens=24, drafts=1, temperature=0.8,
    improver="best_of_n", steps=2, batch=2, group=3, accept=0,
)  # fmt: skip
"""So small that a real model goes through it on a processor in minutes; raise them to see anything learned."""


def words(text: str) -> set[str]:
    """Those that carry something: of four letters or more."""
    return set(re.findall(r"\w{4,}", text.lower()))


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """What can be checked of an answer, by proxies; each costs the user as much attention as to read the passage."""
    if not words(outcome.text):
        raise Malformed("there are no words")
    supported = words(outcome.text) <= words(case.prompt)
    complete = case.data["needs"] in outcome.text.lower()
    return [
        Fact("supported", "supported", Sealed(supported), cost=3),
        Fact("complete", "complete", Sealed(complete), cost=3),
    ]


def cases() -> Pool:
    """What is in `data` travels down: whoever judges an answer, or an answer about that, can be shown the passage."""
    return Pool(tuple(
        Case(
            f"{passage}\n\n{question} Answer in one short sentence.",
            {"passage": passage, "question": question, "needs": needs},
            form=r"[A-Z][A-Za-z0-9 ,']{8,90}\.",
        )
        for passage, question, needs in PASSAGES
    ))  # fmt: skip


pointed = critic(
    "pointed", {"supported-points": "Is what the text calls wrong really not said in the passage?"}, covers=["points"],
    shows=["passage"], difficulty=2, settings=SETTINGS,
)  # fmt: skip
supported = critic(
    "supported", {"supported": "Is all that the text says also said in the passage?"}, covers=["supported"],
    shows=["passage"], assistants=[pointed], difficulty=4, settings=SETTINGS,
)  # fmt: skip
complete = critic(
    "complete", {"complete": "Does the text answer the question?"}, covers=["complete"], shows=["question"],
    difficulty=3, settings=SETTINGS,
)  # fmt: skip
task = Task(
    "passage",
    instruction="Which answer is better: supported by the passage, and complete?",
    cases=cases(),
    facts=facts,
    assistants=(supported, complete),
    aspects=("supported", "complete"),
    difficulty=6,
    usual={"model": "smollm2"},
    settings=SETTINGS,
)


class Overlap(User):
    """A user in a dozen lines: prefers what keeps closer to the words of the passage, at every node."""

    name = "overlap"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """By the share of an outcome's words that are in the passage."""
        passage = words(material(pair.case, "passage"))
        a, b = (len(said & passage) / max(1, len(said)) for said in map(words, (pair.a.text, pair.b.text)))
        return Judgement(0.5 if a == b else float(a > b))

    def recall(self, task: Task, judgement: Judgement) -> None:
        """After an interruption, hear of what was judged before; nothing of it matters here."""
