"""How well a reward model tells right from wrong solutions of one word problem, with and without assistance.

    python scripts/word_problems.py --model SMOLLM2 --data FOLDER --cache FOLDER

Real text: GSM8K's test questions with four models' solutions (Cobbe et al. 2021), all pairs of a right and a wrong one
of a question. The answer key stands for a user's judgement: it labels the pairs that heads are fitted to, and, on
questions they were not fitted to, it is what they are measured by. The trunk is frozen, so every arm is a set of
columns of features that are computed once; the folder --cache keeps them.

A quarter of the questions is for tuning: tools and settings were written looking at them, they are never scored, and
always trained on. The others are scored in cross-validation, folds made of whole questions; --seeds reshuffles them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from frozen import Seeds, cell, folds, heads, is_tuning, over, read, trunk
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rrm import Case, Group, Outcome, Settings
from rrm.core.records import digest
from rrm.core.seeding import generator
from rrm.core.task import Assistant, assist
from rrm.core.validation import plant
from rrm.measure.stats import auc
from rrm.models.agent import tokens_of
from rrm.models.backbone import Backbone
from rrm.models.features import SURPRISE, found
from rrm.models.packing import PrefixGroup
from rrm.models.reward import TextRewardModel
from rrm_assistants.solution import answer
from rrm_tasks.gsm8k import SOLUTIONS, Solved
from rrm_tasks.word_problems import case_of, word_problems


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
            is_tuning(row.question),
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
        own = [len(tokens_of(backbone, q.group.case, outcome)) for outcome in q.group.outcomes]
        cases.append((row, [[(0, n), (n, len(s))] for n, s in zip(own, row.segments, strict=True)]))
    return [torch.stack(rows) for rows in read(backbone, cases, cache, minutes)]


@dataclass(frozen=True)
class Pairs:
    """Every pair of a right and a wrong solution of a question; rows count the solutions through the questions."""

    right: Tensor  # (pairs,) row
    wrong: Tensor  # (pairs,) row
    question: Tensor  # (pairs,)
    writers: tuple[tuple[str, str], ...]  # of the right one and of the wrong one

    @staticmethod
    def of(asked: Sequence[Question]) -> Pairs:
        """All pairs of these questions; each must have as many solutions as the others."""
        rows = [
            (n * len(q.right) + i, n * len(q.right) + j, n, q.models[i], q.models[j])
            for n, q in enumerate(asked)
            for i in range(len(q.right))
            for j in range(len(q.right))
            if q.right[i] and not q.right[j]
        ]
        right, wrong, question = (torch.tensor([row[k] for row in rows]) for k in range(3))
        return Pairs(right, wrong, question, tuple((row[3], row[4]) for row in rows))

    def among(self, questions: Tensor) -> Tensor:
        """Which pairs are of these questions."""
        return torch.isin(self.question, questions).nonzero()[:, 0]

    def balanced(self, own: Tensor) -> Tensor:
        """(own,) weights of these pairs, of mean 1; see `balance`."""
        return balance([self.writers[i] for i in own.tolist()])


def balance(writers: Sequence[tuple[str, str]]) -> Tensor:
    """Weights under which it tells nothing of a pair who wrote its two solutions: between any two models, the pairs in
    which one is right weigh as much as those in which the other is. Recognizing the writer alone then gets 0.5."""
    directed, between = Counter(writers), Counter(frozenset(pair) for pair in writers)
    return torch.tensor([between[frozenset(pair)] / (2 * directed[pair]) for pair in writers])


def arms(asked: Sequence[Question], read_: Sequence[Tensor]) -> dict[str, Tensor]:
    """Per arm (solutions, features): what its heads are fitted to. Those of a trunk only if it was read."""
    seen = [q.group.seen(i) for q in asked for i in range(len(q.right))]
    findings = torch.stack([found(one, len(one)) for one in seen])
    texts = [outcome_.text for q in asked for outcome_ in q.group.outcomes]
    writers = sorted(asked[0].models)
    one_hot = torch.tensor([[float(name == other) for other in writers] for q in asked for name in q.models])
    plain = {
        "length": torch.tensor([[float(len(text)), float(len(text.splitlines()))] for text in texts]),
        "which model wrote it": one_hot,
        "assistance alone, fitted": findings,
    }
    if not read_:
        return plain
    rows = torch.cat([*read_])
    outcome, after = rows[:, 0], rows[:, 1]
    surprise = outcome[:, -SURPRISE:]
    return plain | {
        "log-probability, mean": surprise[:, :1],
        "log-probability, sum": surprise[:, 3:],
        "reward model, outcome": outcome,
        "reward model, assistance": torch.cat([after[:, :-SURPRISE], surprise, findings], 1),
        "... its text only": torch.cat([after[:, :-SURPRISE], surprise], 1),
        "... its findings only": torch.cat([outcome, findings], 1),
    }


def rules(asked: Sequence[Question]) -> dict[str, Tensor]:
    """Per rule (solutions,) scores that nothing is fitted for."""
    wrong = [
        sum(1.0 if a.na else float(sum(not f.holds for f in a.findings)) for a in q.group.seen(i))
        for q in asked
        for i in range(len(q.right))
    ]
    votes = []
    for q in asked:
        said = [answer(outcome.text) for outcome in q.group.outcomes]
        votes += [float(said.count(one)) if one is not None else 0.0 for one in said]
    return {
        "assistance alone, the fewer faults": -torch.tensor(wrong),
        "answer that most models gave": torch.tensor(votes),
    }


def crossed(
    features: Tensor, pairs: Pairs, asked: Sequence[Question], seed: int, number: int, balanced: bool,
    most: int | None = None,
) -> Tensor:  # fmt: skip
    """(solutions,) scores from heads that were fitted to other questions, `most` of them at most; NaN for tuning."""
    scores = torch.full((len(features),), torch.nan)
    size = len(asked[0].right)
    for train, test in folds([q.tuning for q in asked], seed, number):
        chosen = train[torch.randperm(len(train), generator=generator("fewer", seed))][:most]
        own = pairs.among(chosen)
        a, b, weight = pairs.right[own], pairs.wrong[own], pairs.balanced(own) if balanced else None
        flip = torch.rand(len(own), generator=generator("order", seed)) < 0.5  # which comes first must not matter
        first, second = torch.where(flip, b, a), torch.where(flip, a, b)
        head = heads(features, first, second, (~flip).float(), pairs.question[own], weight)
        rows = (test[:, None] * size + torch.arange(size)).flatten()
        scores[rows] = features[rows] @ head
    return scores


def correct(scores: Tensor, pairs: Pairs, asked: Sequence[Question], weighted: bool) -> list[list[float]]:
    """Per scored question, per pair: 1 if the right solution scores higher, 0.5 for a tie; weighted around 0.5."""
    scored = [n for n, q in enumerate(asked) if not q.tuning]
    own = pairs.among(torch.tensor(scored))
    margin = scores[pairs.right[own]] - scores[pairs.wrong[own]]
    value = (margin > 0).float() + 0.5 * (margin == 0).float()
    if weighted:
        value = 0.5 + pairs.balanced(own) * (value - 0.5)
    return [value[pairs.question[own] == n].tolist() for n in scored]


def within(scores: Tensor, asked: Sequence[Question]) -> float:
    """Mean over models of the AUC of a score among the solutions of one model, over all scored questions."""
    found_ = []
    for name in asked[0].models:
        good, bad = [], []
        for n, q in enumerate(asked):
            i = q.models.index(name)
            if not q.tuning:
                (good if q.right[i] else bad).append(float(scores[n * len(q.right) + i]))
        found_.append(auc(good, bad))
    return sum(found_) / len(found_)


def measure(asked: Sequence[Question], read_: Sequence[Tensor], seeds: int, number: int, console: Console) -> None:
    """Fit and print."""
    pairs, columns = Pairs.of(asked), arms(asked, read_)
    scored = sum(not q.tuning for q in asked)
    share = pairs.among(torch.tensor([n for n, q in enumerate(asked) if not q.tuning]))
    console.print(f"{len(asked)} questions, {len(pairs.right)} pairs; scored: {scored} questions, {len(share)} pairs")
    shown = Table("arm", "accuracy", "writers balanced", "fitted balanced: balanced", "AUC within a model")
    values: dict[str, Seeds] = {}
    balanced: dict[str, Seeds] = {}
    for name, features in columns.items():
        by_seed = [crossed(features, pairs, asked, seed, number, False) for seed in range(seeds)]
        also = [crossed(features, pairs, asked, seed, number, True) for seed in range(seeds)]
        values[name] = [correct(scores, pairs, asked, False) for scores in by_seed]
        balanced[name] = [correct(scores, pairs, asked, True) for scores in also]
        unfitted = [correct(scores, pairs, asked, True) for scores in by_seed]
        auc_ = sum(within(scores, asked) for scores in by_seed) / seeds
        shown.add_row(name, *(cell(over(v)) for v in (values[name], unfitted, balanced[name])), f"{auc_:.3f}")
    for name, scores in rules(asked).items():
        values[name] = [correct(scores, pairs, asked, False)] * seeds
        balanced[name] = [correct(scores, pairs, asked, True)] * seeds
        shown.add_row(name, cell(over(values[name])), cell(over(balanced[name])), "", f"{within(scores, asked):.3f}")
    console.print(shown)
    outcome, assisted, rule = "reward model, outcome", "reward model, assistance", "assistance alone, the fewer faults"
    curved = ["assistance alone, fitted"]
    if read_:
        curved += [outcome, assisted]
        more = Table("difference, paired by question", "accuracy", "fitted and scored balanced")
        against = [(name, outcome) for name in (assisted, "... its text only", "... its findings only", rule)]
        for name, other in (*against, (assisted, rule)):
            more.add_row(f"{name} - {other}", *(cell(over(less(v[name], v[other]))) for v in (values, balanced)))
        console.print(more)
    curve = Table("questions trained on", *curved)
    most_of_all = len(folds([q.tuning for q in asked], 0, number)[0][0])
    for most in (*(m for m in (50, 100, 200, 400) if m < most_of_all), most_of_all):
        row = []
        for name in curved:
            by_seed = [crossed(columns[name], pairs, asked, seed, number, False, most) for seed in range(seeds)]
            row.append(cell(over([correct(scores, pairs, asked, False) for scores in by_seed])))
        curve.add_row(str(most), *row)
    console.print(curve)


def less(a: Seeds, b: Seeds) -> Seeds:
    """Per seed, question and pair, how much more."""
    return [
        [[x - y for x, y in zip(*values, strict=True)] for values in zip(*questions, strict=True)]
        for questions in zip(a, b, strict=True)
    ]


def ask(backbone: Backbone, asked: Sequence[Question], number: int) -> Tensor:
    """(number * solutions,) how much rather the model itself says Yes than No when it is asked, untrained, whether a
    solution is right: nats."""
    texts = [(q.group.case.data["question"], o.text) for q in asked[:number] for o in q.group.outcomes]
    asks = [f"Question: {q}\n\nSolution: {text}\n\nIs this solution right? Answer Yes or No." for q, text in texts]
    groups = [PrefixGroup(backbone.render(one), [backbone.encode(a, one) for a in ("Yes", "No")]) for one in asks]
    with torch.no_grad():
        return torch.tensor([float(yes[0] - no[0]) for yes, no in backbone.start.logprobs(groups)])


def main() -> None:
    """Read features, fit the arms and print the tables; if --minutes run out first, say how far it came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a causal language model: folder or name; without it, the arms that need none")
    parser.add_argument("--data", type=Path, help="the file or its folder; default $RRM_DATA, or the published file")
    parser.add_argument("--cache", type=Path, default=Path("runs/word_problems"), help="folder for features")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop reading then; go on the next time")
    parser.add_argument("--questions", type=int, help="take only so many")
    parser.add_argument("--ask", type=int, default=0, help="only ask the model itself, about so many questions")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    helpers = [a for a in plant(word_problems()).assistants if isinstance(a, Assistant)]
    asked = questions(args.data, helpers)[: args.questions]
    console = Console(width=150)
    if args.model is None:
        measure(asked, [], args.seeds, args.folds, console)
        return
    backbone = trunk(args.model, args.precision)
    if args.ask:
        scored = [q for q in asked if not q.tuning][: args.ask]
        said, pairs = ask(backbone, scored, args.ask), Pairs.of(scored)
        right = cell(over([correct(said, pairs, scored, False)]))
        console.print(f"asked itself, {len(scored)} questions: {right}, AUC within a model {within(said, scored):.3f}")
        return
    read_ = hidden(backbone, asked, args.cache, args.minutes)
    if len(read_) < len(asked):
        console.print(f"read {len(read_)} of {len(asked)} questions: run it again to go on")
        return
    measure(asked, read_, args.seeds, args.folds, console)


if __name__ == "__main__":
    main()
