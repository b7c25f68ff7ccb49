"""A language model in the user's place: any transformers causal model as the judge of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rrm.assistance import Assistance
from rrm.models.backbone import Backbone
from rrm.models.pack import PrefixGroup
from rrm.task import Outcome, RRMError, Task
from rrm.user import Judgement, Pair

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
        first, second = (self.backbone.encode(answer) for answer in self.answers)
        if not first or not second or first == second:
            raise RRMError(
                f"{self.backbone.name!r} cannot judge: its tokenizer does not tell {self.answers[0]!r} from "
                f"{self.answers[1]!r}; use a language model of text as the judge"
            )

    @property
    def name(self) -> str:
        return f"model({self.backbone.name})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        prompts = [self.prompt(task, pair), self.prompt(task, pair.swapped())]
        answers = [self.backbone.encode(answer) for answer in self.answers]
        with torch.inference_mode():
            rows = self.backbone.start.logprobs(
                [PrefixGroup(self.backbone.render(prompt), answers) for prompt in prompts]
            )
        sums = torch.stack([torch.stack([v.sum() for v in row]) for row in rows])  # (order, answer)
        mass = sums.exp().sum(1).min().item()
        prefers = sums.softmax(1)[:, 0]
        a_better = (prefers[0].item() + 1 - prefers[1].item()) / 2
        note = f"p(A) {a_better:.3f}, orders {prefers[0].item():.3f} and {1 - prefers[1].item():.3f}"
        if mass < self.abstain:
            return Judgement(
                None, note=f"abstained: only {mass:.2g} of the probability on either answer; {note}"
            )
        preference = 0.5 if abs(a_better - 0.5) < self.margin else float(a_better > 0.5)
        return Judgement(preference, note=note)

    def recall(self, task: Task, judgement: Judgement) -> None:
        """A model judges every pair afresh."""

    def prompt(self, task: Task, pair: Pair) -> str:
        """The question as the judge reads it, outcome A first."""
        return self.template.format(
            instruction=task.instruction, case=pair.case.prompt, first="A", second="B",
            one=_shown(pair.a), two=_shown(pair.b),
            said_one=_said(pair.assistance_a), said_two=_said(pair.assistance_b),
        )  # fmt: skip


def _shown(outcome: Outcome) -> str:
    return outcome.text or "(empty)"


def _said(assistance: tuple[Assistance, ...]) -> str:
    return "".join(f"\n  {one.text}" + (f" ({one.why})" if one.why else "") for one in assistance)
