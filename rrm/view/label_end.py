"""Where somebody stands who has nothing left to judge: what happens now, and what comes next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rrm.labels.queue import LabelerProgress
from rrm.view.reading import Reader

STOPPED = "No process trains this run now: the rrm train command that began it, typed again, goes on where it was."


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
    n, open_ = progress.judged, progress.asked - progress.answered
    judged = f"You judged {n} pair{'' if n == 1 else 's'}. " if n else ""
    look = (_typed("inspect", folder, run.root), "what was judged there, and what the assistants said")
    view = (_typed("view", folder), "the same as pages")
    if run.done and not audit and not progress.asked:
        people = (_typed("measure", "human-labels", folder), "how far people agree, and what the assistance did")
        return LabelEnd("Everything is judged", f"{judged}Training is finished.", (look, view, people), over=True)
    going = audit or run.running
    begun = run.config.get("about", {}).get("command")
    again = ((str(begun), "goes on with training where it was"),) if begun and not going else ()
    if open_:
        waits = f"{open_} pair{' waits' if open_ == 1 else 's wait'} for other people"
        after = f"; {'the audit' if audit else 'training'} goes on after that." if going else f". {STOPPED}"
        return LabelEnd("Nothing more for you just now", f"{judged}{waits}{after}", (*again, look, view))
    if audit:
        on = "The audit goes on by itself; what it asks more appears here."
        return LabelEnd("Everything is judged", f"{judged}{on}")
    on = "Training goes on by itself, and the next pairs appear here." if going else STOPPED
    return LabelEnd("Nothing to judge just now", f"{judged}{on}", (*again, look, view))


def _typed(*words: str | Path) -> str:
    return shlex.join(["rrm", *(str(word) for word in words if str(word))])
