"""What the recursion has to be better than: one critic, judged by the user alone, that says more than a reply.

    verdict   "right" or "wrong": whether whoever is to move after this move wins
    line      the whole line of play after this move, both sides' moves, as far as its tokens reach
"""

from __future__ import annotations

from collections.abc import Sequence

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Finding, Outcome, Sealed
from rrm.core.settings import Settings
from rrm.core.task import Frame, Task
from rrm.worlds.games.game import after, below, moved, wins
from rrm.worlds.games.moves import WINS, behind, case_of, told

VERDICTS = {"right": True, "wrong": False}


def verdict(settings: Settings) -> Task:
    """The critic that says who will win."""
    return Task(
        "verdict", instruction="Which verdict is right: does whoever is to move win?", frame=_frame("verdict"),
        facts=_facts_verdict, findings=_findings_verdict, covers=(WINS,), settings=settings,
    )  # fmt: skip


def written_out(settings: Settings) -> Task:
    """The critic that writes the whole line of play out. `settings.max_tokens` is its cap."""
    return Task(
        "line", instruction="Which line of play is the more likely between good players?", frame=_frame("line"),
        facts=_facts_line, findings=_findings_line, covers=(WINS,), settings=settings,
    )  # fmt: skip


def _frame(asks: str) -> Frame:
    def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
        game, position = behind(case)
        there = moved(game, position, outcome.text)
        return [case_of(game, there, asks)] if after(game, there) else []

    return frame


def read_verdict(outcome: Outcome) -> bool:
    """Whether it says that whoever is to move wins. Raises `Malformed` for what is no verdict."""
    if outcome.text not in VERDICTS:
        raise Malformed(f"{outcome.text[:60]!r} is no verdict; there are: {', '.join(VERDICTS)}")
    return VERDICTS[outcome.text]


def _facts_verdict(case: Case, outcome: Outcome) -> list[Fact]:
    game, position = behind(case)
    claimed = read_verdict(outcome)
    return [Fact(WINS, WINS, Sealed(wins(game, position)), cost=below(game, position), claims=claimed)]


def _findings_verdict(case: Case, outcome: Outcome) -> list[Finding]:
    return [Finding(WINS, holds=not read_verdict(outcome))]  # of the move that led here


def _facts_line(case: Case, outcome: Outcome) -> list[Fact]:
    """That each move of the line is as good as any."""
    game, position = behind(case)
    facts = []
    for i, there in enumerate(told(game, position, outcome.text)):
        best = not (wins(game, position) and wins(game, there))
        facts.append(Fact(f"move{i + 1}", "line", Sealed(best), cost=1 + below(game, there)))
        position = there
    return facts


def _findings_line(case: Case, outcome: Outcome) -> list[Finding]:
    told(*behind(case), outcome.text)
    return [Finding(WINS, holds=False, note=outcome.text)]
