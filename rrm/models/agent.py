"""A language model as an agent: it samples groups, and gives the log-probabilities of their outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rrm.core.records import Case, Group, Outcome, trimmed
from rrm.models.backbone import Backbone
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup, batches
from rrm.models.sampling import Sampled, sample


def tokens_of(backbone: Backbone, case: Case, outcome: Outcome) -> tuple[int, ...]:
    """An outcome's token ids: those that were sampled; for another, the encoding of what is shown of it and the blanks
    around it, as they follow its case, and end-of-text."""
    return outcome.tokens or (*backbone.encode(outcome.whole, case.prompt), backbone.eos_id)


def prefix_groups(backbone: Backbone, groups: Sequence[Group]) -> list[PrefixGroup]:
    """The token ids of groups, ready to pack."""
    out = []
    for g in groups:
        segments = [tokens_of(backbone, g.case, o) for o in g.outcomes]
        out.append(PrefixGroup(backbone.render(g.case.prompt), segments, allowed_tokens(backbone, g)))
    return out


def allowed_tokens(backbone: Backbone, group: Group) -> list[Tensor]:
    """Per outcome, what the case's form allows along its tokens; empty without a form."""
    form = group.case.form
    if not form:
        return []
    return [backbone.forms.allowed(form, tokens_of(backbone, group.case, o)) for o in group.outcomes]


def reference_logprobs(backbone: Backbone, groups: Sequence[Group]) -> list[list[Tensor]]:
    """Log-probabilities of the outcomes' tokens under the starting model; each outcome is computed once
    while `backbone.remember()` is open.

    Both the KL penalty and the reward model's surprise features ask for them.
    """
    memo = {} if backbone.reference is None else backbone.reference
    wanted: dict[tuple[str, str], tuple[Case, Outcome]] = {}
    for g in groups:
        for o in g.outcomes:
            if (g.case.id, o.id) not in memo:
                wanted[g.case.id, o.id] = (g.case, o)
    if wanted:
        by_case: dict[str, list[Outcome]] = {}
        for case, outcome in wanted.values():
            by_case.setdefault(case.id, []).append(outcome)
        cases = {case.id: case for case, _ in wanted.values()}
        missing = [Group(cases[i], tuple(outcomes)) for i, outcomes in by_case.items()]

        def compute(some: Sequence[Group]) -> list[list[Tensor]]:
            with torch.no_grad():
                values = backbone.start.logprobs(prefix_groups(backbone, some))
            return [[value.clone() for value in row] for row in values]  # a view would keep its whole batch alive

        for g, row in zip(missing, backbone.world.each(missing, compute), strict=True):
            for o, value in zip(g.outcomes, row, strict=True):
                memo[g.case.id, o.id] = value
    return [[memo[g.case.id, o.id] for o in g.outcomes] for g in groups]


@dataclass(frozen=True)
class MicroBatch:
    """Part of a large batch, with its graph: backpropagate it before asking for the next."""

    logprobs: Tensor  # (tokens,) log-probabilities, differentiable
    outcome: Tensor  # (tokens,) which outcome of the large batch, counting through the groups in order
    outcomes: Tensor  # (segments,) the outcomes in this part, in the order their tokens come

    def sums(self) -> Tensor:
        """(segments,) log-probability of each outcome of this part, aligned with `outcomes`."""
        local = torch.unique_consecutive(self.outcome, return_inverse=True)[1]
        return self.logprobs.new_zeros(len(self.outcomes)).index_add(0, local, self.logprobs)


class TextAgent:
    """A policy over texts: a fork of the backbone.

    Parameters
    ----------
    max_tokens: longest outcome, in tokens, end-of-text included.
    """

    def __init__(self, backbone: Backbone, fork: Fork, max_tokens: int) -> None:
        self.backbone = backbone
        self.fork = fork
        self.max_tokens = max_tokens

    @property
    def repeatable(self) -> bool:
        """Outcomes hang on (weights, case, key) alone, unless an engine elsewhere samples."""
        return self.backbone.sampler is None

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """A group of `n` outcomes for each case. The same (weights, cases, key) gives the same outcomes.

        A case that comes twice gets other outcomes the second time.
        """
        seen: Counter[str] = Counter()
        keys = []
        for case in cases:
            keys.append(f"{key}/{case.id}/{seen[case.id]}")
            seen[case.id] += 1
        prefixes = [self.backbone.render(case.prompt) for case in cases]

        def decode(some: Sequence[int]) -> list[list[Sampled]]:
            own, named = [prefixes[i] for i in some], [keys[i] for i in some]
            forms = [cases[i].form for i in some]
            draw = self.backbone.sampler or sample
            return draw(self.fork, own, n, self.max_tokens, temperature, named, self.backbone.ends, greedy, forms)

        found = self.backbone.world.each(range(len(cases)), decode)
        groups = []
        for case, row in zip(cases, found, strict=True):
            groups.append(Group(case, tuple(self._outcome(case, *sampled) for sampled in row)))
        return groups

    def _outcome(self, case: Case, ids: tuple[int, ...], logprobs: tuple[float, ...], ended: bool) -> Outcome:
        text, around = trimmed(self.backbone.decode(ids[:-1] if ended else ids, case.prompt))
        return Outcome(text, ids, logprobs, ended, around=around)

    def logprobs(self, groups: Sequence[Group], grad: bool = False) -> list[list[Tensor]]:
        """Per group, per outcome: (tokens,) log-probabilities in nats, end-of-text included."""
        with torch.set_grad_enabled(grad):
            return self.fork.logprobs(prefix_groups(self.backbone, groups))

    def microbatches(self, groups: Sequence[Group], whole: bool = False) -> Iterator[MicroBatch]:
        """The groups in parts that fit in memory, each with its graph.

        A loss that is a sum over tokens or outcomes, divided by a size of the large batch, has the gradient
        of the large batch when it is accumulated over the parts. With `whole`, a group is never split.
        Where several processes train together, these are the parts of this one's share of the groups.
        """
        offsets = [0]
        for g in groups:
            offsets.append(offsets[-1] + len(g.outcomes))
        own = self.backbone.world.share(len(groups))
        first = torch.tensor([offsets[i] for i in own])
        parts = batches(
            prefix_groups(self.backbone, [groups[i] for i in own]),
            d=self.backbone.d,
            budget=self.backbone.budget(True),
            whole=whole,
            masked=not self.backbone.spans,
        )
        for part in parts:
            outcomes = first[part.group] + part.index
            yield MicroBatch(self.fork.token_logprobs(part), outcomes[part.segment], outcomes)

    def state(self) -> dict[str, Tensor]:
        """A copy of the trained weights."""
        return self.fork.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the trained weights; raises `ModelError` on a missing or unexpected key."""
        self.fork.load(state)

    @property
    def version(self) -> str:
        """Short hash of the weights' bytes."""
        return self.fork.version
