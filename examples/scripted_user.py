"""A user of your own: it believes the assistants, and prefers what they find less wrong with.

    python examples/scripted_user.py

Any object with a name, `judge` and `recall` may be the user (`rrm.User`). Give it to `rrm.train`, and check with
`rrm.testing` that a run can be interrupted and resumed with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import rrm
from rrm.testing import check_user


class Believer:
    """Counts what the assistants call wrong. A tie where that is as much of both; abstains if nobody spoke."""

    name = "believer"

    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        """See `rrm.User`."""
        if not (pair.assistance_a or pair.assistance_b):
            return rrm.Judgement(None, note="nobody told me anything")
        a, b = wrong(pair.assistance_a), wrong(pair.assistance_b)
        return rrm.Judgement(0.5 if a == b else float(a < b), note=f"{a} against {b} called wrong")

    def recall(self, task: rrm.Task, judgement: rrm.Judgement) -> None:
        """It learns nothing from one judgement for the next, so there is nothing to recall."""


def wrong(assistance: Sequence[rrm.Assistance]) -> int:
    """How many facts are called wrong, by whomever."""
    return sum(not finding.holds for one in assistance for said in one.tree() for finding in said.findings)


def pairs(task: rrm.Task) -> list[rrm.Pair]:
    """A few pairs that an assistant has examined, to check the user with."""
    case = rrm.Case("2 + 2")
    made = []
    for a, b in (("4", "5"), ("5", "4"), ("4", "four")):
        said = [
            (rrm.Assistance("sum/check", "v1", (rrm.Answer(case, rrm.Outcome("ok"), (rrm.Finding("sum", ok),), 0.9),)),)
            for ok in (a == "4", b == "4")
        ]
        made.append(rrm.Pair(task.path, case, rrm.Outcome(a), rrm.Outcome(b), *said))
    return made


sums = rrm.Task("sum", instruction="Which sum is right?", facts=lambda case, outcome: [])

if __name__ == "__main__":
    check_user(Believer, sums, pairs(sums))
    for pair in pairs(sums):
        judgement = Believer().judge(sums, pair)
        print(f"{pair.a.text} against {pair.b.text}: {judgement.preference} ({judgement.note})")
