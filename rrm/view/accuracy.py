"""How good a reward model is, on comparisons that it was not fitted to: always k of n, and nothing of a few.

From the metrics of a fit (`rrm.core.judgements.FitReport.metrics`), which are what a run keeps of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from rrm.core.judgements import ignorance
from rrm.labels.questions import Said

ENOUGH = 8
"""Held-out comparisons with a preference; of fewer no accuracy is shown, and no confidence is worth showing."""


@dataclass(frozen=True)
class Predicted:
    """Of `of` held-out comparisons of whole outcomes that are not ties, the reward model predicts `right`."""

    right: int
    of: int
    by: str = ""
    """What was held out: cases, pairs, or cases and pairs; empty if the run does not say."""

    @staticmethod
    def of_fit(metrics: Mapping[str, float]) -> Predicted | None:
        """From a fit's metrics; None if they hold no counts."""
        if "holdout_right" not in metrics or "holdout_decided" not in metrics:
            return None
        pairs, all_out = metrics.get("holdout_pairs"), metrics.get("n_holdout", 0.0)
        by = "" if pairs is None or not all_out else "cases and pairs"
        if by and pairs in (0, all_out):
            by = "pairs" if pairs else "cases"
        return Predicted(int(metrics["holdout_right"]), int(metrics["holdout_decided"]), by)

    @staticmethod
    def of_parts(metrics: Mapping[str, float]) -> Predicted | None:
        """The same of parts of outcomes, which are counted apart; None if none were judged."""
        if "parts_right" not in metrics or "parts_decided" not in metrics:
            return None
        return Predicted(int(metrics["parts_right"]), int(metrics["parts_decided"]))

    @property
    def enough(self) -> bool:
        """Whether there are so many that the share means something."""
        return self.of >= ENOUGH

    @property
    def knows(self) -> bool:
        """Whether there are enough, and it predicts more of them than a coin would."""
        return self.enough and 2 * self.right > self.of

    @property
    def share(self) -> float | None:
        """Of those that it predicts; None of too few."""
        return self.right / self.of if self.enough else None

    def __str__(self) -> str:
        """ "17/20"; "–" of too few."""
        return f"{self.right}/{self.of}" if self.enough else "–"


def counted(found: Predicted | None) -> str:
    """ "17/20", or "–" where that is not known, or of too few."""
    return "–" if found is None else str(found)


RANKS = "how an answer ranks among those its assistant's reward model was fitted to; no chance that it is right"
"""What a confidence is, for whoever sees one."""


def confidence_of(one: Said, knowing: Set[str]) -> float | None:
    """An answer's rank, 0 to 1, if its assistant is among those that are `knowing` (`Reader.knowing`)."""
    return one.answer.confidence if one.answer is not None and one.by.assistant in knowing else None


def nothing_learned(metrics: Mapping[str, float]) -> str:
    """Why the fit with these metrics taught nothing, in one sentence without its end; empty if it taught something."""
    if not metrics.get("ignorant"):
        return ""
    why = ignorance(int(metrics.get("n", 0)), int(metrics.get("decided", 0)))
    return f"the reward model has learned nothing, as {why}; its scores are 0 and its confidence is unknown"


def predicted(db: sqlite3.Connection, task: str, round: int, metrics: Mapping[str, float]) -> Predicted | None:
    """What a round's fit predicts of what was held out: from its metrics, or, of a run of before these were kept, from
    its scores; None if it has neither."""
    found = Predicted.of_fit(metrics)
    if found is not None or "n_holdout" not in metrics:
        return found
    try:
        right, of = db.execute(
            "SELECT SUM((c.preference - 0.5) * s.margin > 0), COUNT(*) FROM scores s JOIN comparisons c"
            " ON c.task = s.task AND c.pair = s.pair AND c.round <= s.round WHERE s.task = ? AND s.round = ? AND s.held"
            " AND c.preference != 0.5 AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0)"
            " AND NOT EXISTS (SELECT 1 FROM checkpoints k WHERE k.task = s.task AND k.round = s.round"
            " AND k.part = 'reward' AND k.at <= c.at)",  # judged after the fit, and scored later: `score_ahead`
            (task, round),
        ).fetchone()
    except sqlite3.OperationalError:  # older still: no scores were kept
        return None
    return Predicted(int(right or 0), int(of), "cases")


def finite(value: Any) -> bool:
    """Whether what a file says is a number, and one that can be written down."""
    return isinstance(value, int | float) and -1e300 < value < 1e300  # an int may be too large to be a float


def well_measured(found: Any) -> dict[str, Any]:
    """What report.json says of a run, of which only what has the shape of a measurement: an estimate and its interval,
    for `agreement`, `score`, and by aspect. The rest is somebody else's file."""
    if not isinstance(found, dict):
        return {}
    whole = ("agreement", "score")
    kept = {name: _counted(value) for name, value in found.items() if name in whole and _interval(value)}
    aspects = found.get("aspects")
    if isinstance(aspects, dict):
        kept["aspects"] = {str(name): _counted(value) for name, value in aspects.items() if _interval(value)}
    return {**{name: value for name, value in found.items() if name not in (*whole, "aspects")}, **kept}


def nodes_measured(measured: Mapping[str, Any], run: str, root: str, score: Any) -> dict[str, dict[str, Any]]:
    """Node -> "start", "trained" -> the true score that report.json says of a run's nodes, of which only what has the
    shape of a measurement. score: of the run's root, if it says one."""
    nodes, start = measured.get("nodes"), measured.get("start")
    found = nodes.get(run) if isinstance(nodes, dict) else None
    found = found if isinstance(found, dict) else {}
    if score is not None and isinstance(start, dict) and "score" in start:
        found = {root: {"start": start["score"], "trained": score}, **found}
    return {
        path: {when: _counted(one) for when, one in scores.items() if isinstance(one, dict) and finite(one.get("mean"))}
        for path, scores in found.items() if isinstance(scores, dict)
    }  # fmt: skip


def _interval(value: Any) -> bool:
    return isinstance(value, dict) and all(finite(value.get(name)) for name in ("mean", "low", "high"))


def _counted(value: dict[str, Any]) -> dict[str, Any]:
    """Without what should be a number beside its mean and is none."""
    return {name: one for name, one in value.items() if name not in ("low", "high", "n") or finite(one)}
