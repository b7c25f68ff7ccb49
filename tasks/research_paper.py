"""Write a short research paper; with help, judge one: the first example of Leike et al. 2018 (section 3.2), in words.

research_paper
├── writing       is it well written?            asks harper
├── novelty       is the claim new?              asks bm25s and MiniLM, which know the works you give
├── experiments   does the result follow?        N/A if it states no computation
│   └── rerun     runs the computation again
└── proofs        does every step follow?        N/A if it has no proof
    └── algebra   sympy and z3

Your own briefs and known works: a file of yours with `task = research_paper("briefs.jsonl", known="works.jsonl")`.
"""

from __future__ import annotations

import re
from pathlib import Path

from rrm import Case, Fact, Malformed, Outcome, Pool, Sealed, Settings, Task
from rrm.core.records import Spans
from rrm.worlds.texts import read_texts
from rrm_assistants.text import experiments, novelty, proofs, writing
from rrm_assistants.tools.algebra import proof_lines
from rrm_assistants.tools.novelty import Novelty

BRIEFS = (
    "Does a longer rest help with push-ups? With a rest of 3 minutes: 14, 16, 18. With 1 minute: 10, 11, 12.",
    "Does an owl call more before rain? Calls on 4 nights before rain: 9, 12, 7, 8. On 4 other nights: 5, 6, 4, 5.",
    "Is the sum of two odd numbers even? Three examples: 3 and 5, 7 and 9, 11 and 1.",
    "Does bread rise more with warm water? Height in cm with warm water: 11, 12, 13. With cold water: 8, 9, 7.",
    "By how much does n squared grow from n to n + 1? The first squares: 1, 4, 9, 16, 25.",
    "Do shorter letters get more replies? Replies to 20 short letters: 9. To 20 long letters: 5.",
    "Does a cache of 8 pages miss less than one of 4? Misses of 100 with 8 pages: 21, 19, 23. With 4: 40, 44, 39.",
    "Is the mean of n numbers never above the largest? Four numbers: 2, 3, 7, 8.",
)  # fmt: skip
KNOWN = (
    "Rest between sets. Resting longer between sets of push-ups lets people do more of them.",
    "Warm dough. Bread dough rises faster when it is mixed with warm water.",
    "Larger caches. A cache that holds more pages misses fewer of them.",
    "Owls at night. Owls call more often on nights without wind.",
)
"""Made up, as the briefs are."""
SECTIONS = ("title", "claim", "computation", "result", "proof")
PROMPT = """Write a short research paper of at most 100 words on a brief. An example:

Brief: Is the sum of two even numbers even? Three examples: 2 and 4, 6 and 8, 10 and 2.
Title: Sums of even numbers
Claim: The sum of two even numbers is even.
Computation: (2 + 4) / 2
Result: 3
Proof: Let m = 2i and n = 2j.
m + n = 2(i + j)

Now write the Title, Claim, Computation, Result and Proof for this brief. If there is nothing to prove, leave the
proof out.

Brief: {brief}"""
FORM = (
    r"Title: [^\n]{3,80}\nClaim: [^\n]{3,160}\n"
    r"Computation: [0-9(][0-9 ()+*/.-]{2,60}\nResult: -?[0-9]{1,6}(\.[0-9]{1,3})?"
    r"(\nProof: [^\n]{3,100}(\n[^\n:]{3,100}){0,4})?"
)
"""What stands under the headings is the agent's; the computation is one that `rerun` can run."""
ROOT = Settings(
    rounds=1, cases=8, outcomes=4, comparisons=24, frame_cases=4, max_tokens=160, temperature=0.8,
    improver="best_of_n", steps=4, batch=4, group=4, accept=8,
)  # fmt: skip


def research_paper(
    briefs: str | Path | None = None, known: str | Path | None = None, settings: Settings | None = None
) -> Task:
    """The tree over briefs and known works (see `rrm.worlds.texts.read_texts`); over a few made-up ones without."""
    texts = BRIEFS if briefs is None else read_texts(briefs)
    works = KNOWN if known is None else read_texts(known)
    return Task(
        "research_paper",
        instruction="Which paper is better: well written, novel, experiments correct, proofs correct?",
        cases=Pool(tuple(Case(PROMPT.format(brief=text), {"brief": text}, FORM) for text in texts)),
        facts=facts,
        locate=locate,
        assistants=(writing(), novelty(Novelty(works)), experiments(), proofs()),
        aspects=("writing", "novelty", "experiments", "proofs"),
        difficulty=20,
        settings=settings or ROOT,
    )


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """What can be checked of any such paper: the sections that were asked for are there. Whether what stands in them is
    right, no program knows for certain, and no fact says so. Raises `Malformed` if there are no words."""
    if not any(c.isalpha() for c in outcome.text):
        raise Malformed("there are no words")
    there = sections(outcome.text)
    return [Fact(f"has-{name}", "form", Sealed(name in there)) for name in SECTIONS]


def sections(text: str) -> dict[str, tuple[int, int]]:
    """Section -> where its line is."""
    return {
        name: found.span()
        for name in SECTIONS
        if (found := re.search(rf"^[^\w\n]*{name}[^\w\n]*:.*$", text, re.IGNORECASE | re.MULTILINE))
    }


def locate(case: Case, outcome: Outcome) -> Spans:
    """Where the sections are, and the steps of the proof, which the tool algebra points at."""
    there = sections(outcome.text)
    spans = {f"has-{name}": span for name, span in there.items()}
    if "result" in there:
        spans["result"] = there["result"]
    begin = there["proof"][0] if "proof" in there else 0
    for i, line in enumerate(proof_lines(outcome.text), 1):
        begin = outcome.text.index(line, begin)
        spans[f"step{i}"] = (begin, begin + len(line))
        begin += len(line)
    return spans


task = research_paper()
