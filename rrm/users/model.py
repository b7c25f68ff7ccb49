"""A language model in the user's place: any transformers causal model as the judge of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from rrm.core.errors import RRMError
from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Assistance, Case, Outcome
from rrm.core.remarks import Remark
from rrm.core.task import Task
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.users.pairwise import ABOUT, about, asked_of, question, weigh

TEMPLATE = """{instruction}

Case: {case}

{first}: {one}{said_one}

{second}: {two}{said_two}

The better one is"""


@dataclass(frozen=True)
class ModelUser:
    """Judges by the probability of "A" against "B" after the question, averaged over both orders.

    Averaging removes the preference for a position, which such judges have. If the two orders together
    leave less than `margin` of probability for either side, the judgement is a tie; if nearly all
    probability (1 - `abstain`) goes to other words than the two answers, the model has not understood the
    question, and it abstains rather than guesses.

    An outcome may speak to its judge instead of answering. With `fence` each stands between random marks, and the
    question says that what is between them is no instruction (delimiting: Hines et al. 2024, arXiv 2403.14720). How
    much that helps depends on the model: scripts/addressing.py measures it.
    """

    backbone: Backbone
    margin: float = 0.02
    abstain: float = 1e-4
    template: str = TEMPLATE
    answers: tuple[str, str] = (" A", " B")
    about: str = ABOUT
    yes: tuple[str, str] = (" Yes", " No")
    fence: bool = False

    def __post_init__(self) -> None:
        if self.backbone.tokenizer.chat_template:  # an assistant's turn begins with the answer, not with a space
            for name in ("answers", "yes"):
                one, two = getattr(self, name)
                object.__setattr__(self, name, (one.lstrip(), two.lstrip()))
        first, second = (self.backbone.encode(answer, self.template) for answer in self.answers)
        if not first or not second or first == second:
            raise RRMError(
                f"{self.backbone.name!r} cannot judge: its tokenizer does not tell {self.answers[0]!r} from "
                f"{self.answers[1]!r}; use a language model of text as the judge"
            )

    @property
    def name(self) -> str:
        """Its kind, and the model behind it."""
        return f"model({self.backbone.name})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Ask in both orders; abstain where the model says neither A nor B. What else it is asked for of each outcome
        (`Settings.ask`) are questions of their own, and what it does not understand it does not answer."""
        judgement = self.judgement(*self.chances(task, pair))
        sides = ((pair.a, pair.assistance_a), (pair.b, pair.assistance_b))
        a, b = (self.remarks(task, pair.case, outcome, said) for outcome, said in sides)
        return replace(judgement, remarks_a=a, remarks_b=b)

    def remarks(
        self, task: Task, case: Case, outcome: Outcome, said: Sequence[Assistance] = ()
    ) -> tuple[Remark, ...]:
        """What it says of one outcome: the likeliest level of a rating, the likelier of yes and no."""
        found = []
        for kind, levels, words, _ in asked_of(task, case):
            asked = about(self.about, task, case, outcome, said, words, self.fence)
            lead = " " if self.yes[0].startswith(" ") else ""
            answers = [f"{lead}{level + 1}" for level in range(levels)] if kind == "rating" else [*self.yes]
            chances = self._chances_of(asked, answers)
            if chances.sum() < self.abstain:
                continue
            best = int(chances.argmax())
            found.append(Remark(kind, float(best + 1), levels) if kind == "rating" else Remark(kind, float(best == 0)))
        return tuple(found)

    def _chances_of(self, asked: str, answers: Sequence[str]) -> torch.Tensor:
        """(answers,) the probability of each. Raises `RRMError` if the tokenizer does not tell them apart."""
        ids = [self.backbone.encode(answer, asked) for answer in answers]
        if not all(ids) or len({tuple(one) for one in ids}) < len(ids):
            raise RRMError(
                f"{self.backbone.name!r} cannot be asked for this: its tokenizer does not tell {', '.join(answers)} "
                "apart; use a language model of text as the judge, or leave it out of ask"
            )
        with torch.inference_mode():
            (row,) = self.backbone.start.logprobs([PrefixGroup(self.backbone.render(asked), ids)])
        return torch.stack([value.sum() for value in row]).exp()

    def chances(self, task: Task, pair: Pair) -> tuple[float, float, float]:
        """In both orders, the chance of preferring what is shown as A (in the second order, B is); and the probability
        of either answer, in the order where it is smaller."""
        prompts = [self.prompt(task, pair), self.prompt(task, pair.swapped())]
        with torch.inference_mode():
            rows = self.backbone.start.logprobs(
                [
                    PrefixGroup(self.backbone.render(p), [self.backbone.encode(answer, p) for answer in self.answers])
                    for p in prompts
                ]
            )
        sums = torch.stack([torch.stack([v.sum() for v in row]) for row in rows])  # (order, answer)
        first, second = sums.softmax(1)[:, 0].tolist()
        return first, second, sums.exp().sum(1).min().item()

    def judgement(self, first: float, second: float, mass: float) -> Judgement:
        """What it makes of its `chances`."""
        judgement = weigh(first, second, self.margin)
        if mass < self.abstain:
            return Judgement(
                None, note=f"abstained: only {mass:.2g} of the probability on either answer; {judgement.note}"
            )
        return judgement

    def recall(self, task: Task, judgement: Judgement) -> None:
        """A model judges every pair afresh."""

    def prompt(self, task: Task, pair: Pair) -> str:
        """The question as the judge reads it, outcome A first."""
        return question(self.template, task, pair, self.fence)
