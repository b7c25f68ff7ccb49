"""A node's rounds one by one, as they are told afterwards: what was judged and learned, and whether it was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rrm.view.accuracy import Predicted, nothing_learned, predicted
from rrm.view.reading import NodeView, Reader


@dataclass(frozen=True)
class Acceptance:
    """What the user said, on fresh outcomes, of a round's improvement."""

    kept: bool
    won: float
    """Comparisons in which the agent of after the improvement was preferred; a tie is half of one."""
    of: int

    @staticmethod
    def of_metrics(metrics: Mapping[str, float]) -> Acceptance:
        """From those of the phase "accept"."""
        of = int(metrics["comparisons"])
        return Acceptance(bool(metrics["kept"]), metrics["preferred"] * of, of)

    @property
    def preferred(self) -> str:
        """ "9/16": how often the agent of after was preferred to that of before."""
        return f"{round(self.won, 2):g}/{self.of}"

    @property
    def before(self) -> str:
        """ "7/16": how often that of before was."""
        return f"{round(self.of - self.won, 2):g}/{self.of}"

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'undone'}, preferred {self.preferred}"


@dataclass(frozen=True)
class NodeRound:
    """One round of a node, from 0."""

    round: int
    comparisons: int
    """Judged in it, those of the acceptance included."""
    accuracy: Predicted | None
    ignorant: str
    """Why its reward model has learned nothing; empty if it has learned something."""
    rewards: tuple[float, float] | None
    """First and last of the improvement."""
    kl: float | None
    accepted: Acceptance | None
    """None: nobody was asked."""
    undone: bool = False
    """Whether it was undone before anybody was asked, since it earned less than what was before."""
    parts: Predicted | None = None
    """How its reward model does on parts of outcomes; None: none were judged."""


def rounds_of(run: Reader, node: NodeView) -> list[NodeRound]:
    """Every round of which something was recorded, the latest last."""
    fits: dict[int, Mapping[str, float]] = {}
    steps: dict[int, list[Mapping[str, float]]] = {}
    asked: dict[int, Acceptance] = {}
    for (round, phase, _), values in run.metrics(node.path, ("fit", "improve", "accept")).items():
        if phase == "fit":
            fits[round] = values
        elif phase == "accept":
            asked[round] = Acceptance.of_metrics(values)
        else:
            steps.setdefault(round, []).append(values)
    counts = run.counts.get(node.path, {})
    found = []
    for round in sorted({*fits, *steps, *asked, *(round for round in counts if round >= 0)}):
        rewards = [values["reward"] for values in steps.get(round, ()) if "reward" in values]
        kls = [values["kl"] for values in steps.get(round, ()) if "kl" in values]
        fit = fits.get(round, {})
        found.append(
            NodeRound(
                round, counts.get(round, 0), predicted(run.db, node.path, round, fit), nothing_learned(fit),
                (rewards[0], rewards[-1]) if rewards else None, kls[-1] if kls else None, asked.get(round),
                any("undone" in values for values in steps.get(round, ())), Predicted.of_parts(fit),
            )
        )  # fmt: skip
    return found
