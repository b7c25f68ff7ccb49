"""Is it well written: does every verb agree with its subject?"""

from __future__ import annotations

from collections.abc import Sequence

from rrm import Settings, Task
from rrm.core.task import Assistant
from rrm.worlds.papers import critique


def writing(assistants: Sequence[Task | Assistant] = (), settings: Settings | None = None) -> Task:
    """The critic writes the sentence's verbs as they should be; where they differ, the writing is wrong."""
    return Task(
        "writing",
        instruction="Which answer states the verbs as they should be?",
        frame=critique.frame_writing,
        facts=critique.facts_writing,
        findings=critique.findings_writing,
        assistants=tuple(assistants),
        covers=("writing",),
        aspects=("writing",),
        difficulty=2,
        settings=settings or Settings(max_tokens=16, rounds=1, cases=96, lr=3e-4, batch=32, steps=12),
    )
