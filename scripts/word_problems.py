"""How well a reward model tells right from wrong solutions of one word problem, with and without assistance.

    python scripts/word_problems.py --model SMOLLM2 --data FOLDER --cache FOLDER

Real text: GSM8K's test questions with four models' solutions (Cobbe et al. 2021), all pairs of a right and a wrong one
of a question. The answer key stands for a user's judgement: it labels the pairs that heads are fitted to, and, on
questions they were not fitted to, it is what they are measured by. The trunk is frozen, so every arm is a set of columns
of features that are computed once; the folder --cache keeps them.

A quarter of the questions is for tuning: tools and settings were written looking at them, they are never scored, and
always trained on. The others are scored in cross-validation, folds made of whole questions; --seeds reshuffles them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from reading import read, trunk
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rrm import Case, Group, Outcome, Settings
from rrm.assistance import Assistant, assist
from rrm.check import plant
from rrm.learning.fit_heads import fit_heads
from rrm.learning.fit_reward import bootstrap
from rrm.measure.stats import Interval, auc, over_seeds
from rrm.models.agent import tokens_of
from rrm.models.backbone import Backbone
from rrm.models.features import FINDINGS, SURPRISE, found
from rrm.models.reward import TextRewardModel
from rrm.seeding import generator
from rrm.task import digest
from tasks.gsm8k import SOLUTIONS, Solved
from tasks.word_problems import case_of, word_problems


@dataclass(frozen=True)
class Question:
    """A question with right and wrong solutions, examined by the assistants."""

    group: Group
    right: tuple[bool, ...]
    models: tuple[str, ...]
    tuning: bool


def questions(data: Path | None, helpers: Sequence[Assistant]) -> list[Question]:
    """Those with both right and wrong solutions, in an order that says nothing of them."""
    rows = sorted(SOLUTIONS.read(data), key=lambda row: digest("order", row.question))
    rows = [row for row in rows if len({s.is_correct for s in row.solutions.values()}) == 2]
    groups = assist(helpers, [_group(row) for row in rows])
    return [
        Question(
            group,
            tuple(s.is_correct for s in row.solutions.values()),
            tuple(row.solutions),
            int(digest("tuning", row.question), 16) % 4 == 0,
        )
        for row, group in zip(rows, groups, strict=True)
    ]


def _group(row: Solved) -> Group:
    case: Case = case_of(row.question, row.ground_truth)
    return Group(case, tuple(Outcome(s.solution) for s in row.solutions.values()))


def hidden(backbone: Backbone, asked: Sequence[Question], cache: Path, minutes: float) -> list[Tensor]:
    """Per question (solutions, 2, d + SURPRISE): what the trunk reads where the solution ends, and where what the
    assistants said of it ends, in one pass. The second is what `TextRewardModel` reads by default; the first what it
    reads with reward_sees="outcome", save for a second end-of-text."""
    reward = TextRewardModel(backbone, backbone.frozen("word problems"), Settings())
    cases = []
    for q, row in zip(asked, reward.rows([q.group for q in asked]), strict=True):
        own = [len(tokens_of(backbone, outcome)) for outcome in q.group.outcomes]
        cases.append((row, [[(0, n), (n, len(s))] for n, s in zip(own, row.segments, strict=True)]))
    return [torch.stack(rows) for rows in read(backbone, cases, cache, minutes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a causal language model: folder or name")
    parser.add_argument("--data", type=Path, help="the file or its folder; default $RRM_DATA, or the published file")
    parser.add_argument("--cache", type=Path, default=Path("runs/word_problems"), help="folder for features")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop reading then; go on the next time")
    parser.add_argument("--questions", type=int, help="take only so many")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    helpers = [a for a in plant(word_problems()).assistants if isinstance(a, Assistant)]
    asked = questions(args.data, helpers)[: args.questions]
    read_ = hidden(trunk(args.model, args.precision), asked, args.cache, args.minutes)
    print(len(asked), len(read_))


if __name__ == "__main__":
    main()
