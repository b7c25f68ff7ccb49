"""What the assistance did for a person, as far as a run can tell: for the label page and the terminal."""

from __future__ import annotations

from pathlib import Path

from rrm.labels.agreement import Uplift, report, uplifts
from rrm.labels.questions import Label, side
from rrm.labels.queue import Labels
from rrm.view.positions import first_preferred
from rrm.view.reading import Reader


def told(folder: Path, labels: Labels, labeler: str) -> list[str]:
    """The report on a person's labels, in words."""
    lines = report(labels, labeler).lines()
    with Reader(folder) as run:
        lines += [
            f"prefers what was shown first in {one.share} (the order is drawn at random: without a bias 0.50)"
            for one in first_preferred(run) if one.labeler == labeler
        ]
        for one in by_reward_model(run, labels, labeler):
            n = one.assisted.worth.n + one.unassisted.worth.n
            if n:
                lines.append(
                    f"agreement with the reward model on {n} held-out pairs: assistance shown {one.assisted.worth}, "
                    f"not shown {one.unassisted.worth}, difference {one.difference} "
                    "(it learned from judgements that were mostly assisted, so this is no truth)"
                )
    return lines


def by_reward_model(run: Reader, labels: Labels, labeler: str) -> list[Uplift]:
    """A person's agreement with the reward model of the latest round that was not trained on a pair."""
    if "scores" not in run.tables:
        return []
    margins = {  # the latest round comes last
        (task, pair): margin
        for task, pair, margin in run.rows("SELECT task, pair, margin FROM scores WHERE held ORDER BY round")
    }
    drawn = [label for label in labels.labels(drawn=True) if label.labeler == labeler]
    asked = labels.pairs()

    def worth(label: Label) -> float | None:
        margin = margins.get(asked[label.question])
        if margin is None or label.preference is None:
            return None
        return 1 - abs(float(margin > 0) - side(label.preference))

    return uplifts(drawn, labels.cases(), worth)
