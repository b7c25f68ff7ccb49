"""Write the opening of a novel; with help, judge one: an example of Leike et al. 2018 (section 3.2), in words.

novel
├── plot         what happens, and does it hang together?
├── writing      spelling and grammar             asks harper; the same assistant as the research paper's
├── characters   do the characters develop?
└── flow         does each sentence lead on to the next?

Your own outlines: a file of yours with `task = novel("outlines/")`.
"""

from __future__ import annotations

from pathlib import Path

from rrm import Case, Fact, Malformed, Outcome, Pool, Sealed, Settings, Task
from rrm.worlds.texts import read_texts
from rrm_assistants.text import characters, flow, plot, writing

OUTLINES = (
    "A lighthouse keeper's daughter finds a map in a bottle and rows out to the island it shows.",
    "A baker in a mountain village learns that the mill has been sold, and sets out to buy it back.",
    "Two sisters who have not spoken for ten years inherit one house with one key.",
    "A clockmaker notices that every clock in the town loses a minute each night.",
    "A retired ferryman is asked to make one last crossing in a storm.",
    "A boy who repairs radios hears a voice that answers him before he speaks.",
    "The last librarian of a drowned city rows from window to window, saving books.",
    "A cook at a polar station plants a garden where nothing can grow.",
)
"""Made up."""
WORDS = (40, 100)
"""Fewest and most words that were asked for."""
PROMPT = """Write the opening of a novel from this outline: one paragraph of {least} to {most} words. Write only the
story.

Outline: {outline}"""
ROOT = Settings(
    rounds=1, cases=8, outcomes=4, comparisons=24, frame_cases=4, max_tokens=200, temperature=0.8,
    improver="best_of_n", steps=4, batch=4, group=4, accept=8,
)  # fmt: skip


def novel(outlines: str | Path | None = None, settings: Settings | None = None) -> Task:
    """The tree over outlines (see `rrm.worlds.texts.read_texts`); over a few made-up ones without."""
    texts = OUTLINES if outlines is None else read_texts(outlines)
    least, most = WORDS
    return Task(
        "novel",
        instruction="Which opening is better: plot, spelling and grammar, characters, flow?",
        cases=Pool(
            tuple(Case(PROMPT.format(outline=text, least=least, most=most), {"outline": text}) for text in texts)
        ),
        facts=facts,
        assistants=(plot(), writing(), characters(), flow()),
        aspects=("plot", "writing", "characters", "flow"),
        difficulty=15,
        settings=settings or ROOT,
    )


def facts(case: Case, outcome: Outcome) -> list[Fact]:
    """What can be checked of any opening: its length, and that it ends with a whole sentence. What makes a story good
    is no fact, and is left to the user. Raises `Malformed` if there are no words."""
    if not any(c.isalpha() for c in outcome.text):
        raise Malformed("there are no words")
    least, most = WORDS
    return [
        Fact("length", "form", Sealed(least <= len(outcome.text.split()) <= most)),
        Fact("ends", "form", Sealed(outcome.text.rstrip().endswith((".", "!", "?", '"', "”")))),
    ]


task = novel()
