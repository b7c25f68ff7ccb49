"""How many labels it takes to reach a true score: with assistance or without, choosing pairs by the reward model's
disagreement or at random. The score is that of the best of 16 outcomes by the reward model fitted on the labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from rrm.core.judgements import Comparison, Pair
from rrm.core.records import Group, digest
from rrm.core.task import assist
from rrm.learning.fitting import fit_reward
from rrm.measure.arms import start_agent
from rrm.measure.oracle import true_score
from rrm.measure.roots import labeler
from rrm.measure.stage import Labels, Sees, Stage
from rrm.models.reward import TextRewardModel, trunk

SIZES = (16, 32, 64, 128, 256, 512)
"""Labels given so far. The first are drawn at random in either way of choosing."""
CASES, BEST_OF, LABELED = 60, 16, 128
ARMS: dict[str, tuple[Labels, Sees]] = {"alone": ("alone", "outcome"), "assisted": ("assisted", "assistance")}
CHOOSE = ("random", "disagreement")


def run(stage: Stage) -> dict[str, Any]:
    """Per arm and way to choose, by number of labels: [case, true score of the best by reward] on other cases."""
    sizes = SIZES[:2] if stage.quick else SIZES
    start = start_agent(stage.task, stage.backbone)
    key = f"labels {stage.seed}"
    pool = start.sample(stage.cases.draw(12 if stage.quick else LABELED, key), 4, key=key)
    key = f"best by labels {stage.seed}"
    test = start.sample(stage.cases.draw(4 if stage.quick else CASES, key), BEST_OF, key=key)
    truth = [[max(0.0, true_score(stage.task, g.case, outcome)) for outcome in g.outcomes] for g in test]
    found: dict[str, Any] = {"mean": [[g, sum(row) / len(row)] for g, row in enumerate(truth)],
                             "best": [[g, max(row)] for g, row in enumerate(truth)]}  # fmt: skip
    for arm, (labels, sees) in ARMS.items():
        helpers = stage.helpers if labels == "assisted" else ()
        judged, unseen = assist(helpers, pool), assist(helpers, test, quick=True)
        for choose in CHOOSE:
            found[f"{arm}, {choose}"] = curve(stage, labels, sees, choose, judged, unseen, truth, sizes)
    return found


def curve(
    stage: Stage, labels: Labels, sees: Sees, choose: str, pool: Sequence[Group], test: Sequence[Group],
    truth: Sequence[Sequence[float]], sizes: Sequence[int],
) -> dict[str, list[list[float]]]:  # fmt: skip
    """By number of labels, the true scores of what the reward model likes best."""
    task = stage.task
    settings = task.settings.model_copy(update={"reward_sees": sees, "reward_trunk": "frozen"})
    user = labeler(stage, labels)
    left = ordered(stage, pool)
    reward = TextRewardModel(
        stage.backbone, trunk(stage.backbone, f"{task.path} reward", "frozen"), settings,
        len(stage.helpers) if labels == "assisted" else 0,
    )  # fmt: skip
    seen = reward.features(test)  # once: refits change the heads only
    comparisons: list[Comparison] = []
    found: dict[str, list[list[float]]] = {}
    for size in sizes:
        if comparisons and choose == "disagreement":
            left = by_doubt(reward, pool, left)
        fresh, left = left[: size - len(comparisons)], left[size - len(comparisons) :]
        pairs = [Pair.of(task.path, pool[g], i, j) for g, i, j in fresh]
        comparisons += [Comparison(pair, user.judge(task, pair), 0, user.name) for pair in pairs]
        fit_reward(reward, comparisons, settings, f"active {stage.seed} {size}")
        found[str(size)] = []
        for g, features in enumerate(seen):
            heads = (features @ reward.weight.detach().T - reward.shift) / reward.scale
            best = int(heads.mean(1).argmax())
            found[str(size)].append([g, truth[g][best]])
    return found


def ordered(stage: Stage, pool: Sequence[Group]) -> list[tuple[int, int, int]]:
    """All pairs of different outcomes of the pool, in an order that the seed decides."""
    pairs = [
        (g, i, j) for g, group in enumerate(pool) for i, j in itertools.combinations(range(len(group.outcomes)), 2)
        if group.outcomes[i].content != group.outcomes[j].content
    ]  # fmt: skip
    return sorted(pairs, key=lambda place: digest(stage.seed, "active", *place))


def by_doubt(
    reward: TextRewardModel, pool: Sequence[Group], left: Sequence[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """The pairs, those first on whose difference the ensemble's heads disagree most, as in training."""
    heads = [score.heads for score in reward.score(pool)]
    doubt = {(g, i, j): float((heads[g][i] - heads[g][j]).std(correction=0)) for g, i, j in left}
    return sorted(left, key=lambda place: -doubt[place])


def needed(sizes: Sequence[int], scores: Sequence[float], target: float) -> float:
    """The least number of labels at which a curve reaches a score, log-linear between sizes; infinity if none."""
    for k, score in enumerate(scores):
        if score >= target:
            if k == 0:
                return float(sizes[0])
            share = (target - scores[k - 1]) / (score - scores[k - 1])
            return math.exp(math.log(sizes[k - 1]) * (1 - share) + math.log(sizes[k]) * share)
    return math.inf
