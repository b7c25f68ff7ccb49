"""Where somebody stands who has nothing left to judge: what happens now, and what comes next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rrm.labels.queue import LabelerProgress
from rrm.view.reading import Reader


@dataclass(frozen=True)
class LabelEnd:
    """`steps`: commands to type next, each with what it is for. `over`: nothing more will be asked."""

    title: str
    text: str
    steps: tuple[tuple[str, str], ...] = ()
    over: bool = False


def end_of(run: Reader, folder: Path, progress: LabelerProgress, audit: bool = False) -> LabelEnd:
    """What is to be said to a person who holds no question.

    folder: the run's, as it was given. audit: whether an audit asks, and not training.
    """
    who = "The audit" if audit else "Training"
    judged = f"You judged {progress.mine} pair{'' if progress.mine == 1 else 's'}."
    look = (_typed("inspect", folder, run.root), "what was judged there, and what the assistants said")
    view = (_typed("view", folder), "the same as pages")
    if progress.answered < progress.asked:
        open_ = progress.asked - progress.answered
        wait = f"{open_} pair{' waits' if open_ == 1 else 's wait'} for other people; {who.lower()} goes on after that."
        return LabelEnd("Nothing more for you just now", f"{judged} {wait}", (look, view))
    if run.done and not audit and not progress.asked:
        people = (_typed("measure", "human-labels", folder), "how far people agree, and what the assistance did")
        return LabelEnd("Everything is judged", f"{judged} Training is finished.", (look, view, people), over=True)
    if audit:
        on = "The audit goes on by itself; what it asks more appears here."
        return LabelEnd("Everything is judged", f"{judged} {on}")
    if run.running:
        on = "Training goes on by itself, and the next pairs appear here."
        return LabelEnd("Nothing to judge just now", f"{judged} {on}" if progress.mine else on, (look, view))
    off = "No process trains this run now: the rrm train command that began it, typed again, goes on where it was."
    return LabelEnd("Nothing to judge just now", f"{judged} {off}" if progress.mine else off, (look, view))


def _typed(*words: str | Path) -> str:
    return shlex.join(["rrm", *(str(word) for word in words if str(word))])
