"""A language model in the user's place: any transformers causal model as the judge of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rrm.core.errors import RRMError
from rrm.core.judgements import Judgement, Pair
from rrm.core.task import Task
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.users.pairwise import question, weigh

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
    """

    backbone: Backbone
    margin: float = 0.02
    abstain: float = 1e-4
    template: str = TEMPLATE
    answers: tuple[str, str] = (" A", " B")

    def __post_init__(self) -> None:
        if self.backbone.tokenizer.chat_template:  # an assistant's turn begins with the answer, not with a space
            one, two = self.answers
            object.__setattr__(self, "answers", (one.lstrip(), two.lstrip()))
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
        """Ask in both orders; abstain where the model says neither A nor B."""
        return self.judgement(*self.chances(task, pair))

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
        return question(self.template, task, pair)
