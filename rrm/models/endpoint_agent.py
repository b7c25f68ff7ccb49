"""A model behind an endpoint as an agent: it answers cases, and cannot be trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rrm.core.records import Case, Group, Outcome, digest
from rrm.models.endpoints import Ask, Endpoint, EndpointError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EndpointAgent:
    """An `Agent` for a finished assistant: `Assistant(task, EndpointAgent(...), reward=None)`.

    Its weights are elsewhere, so no node can be trained with it: `state` and `load` raise, and there are no gradients.
    With a reward model (`rrm.loop.reopen.reward_of`) the assistant gives the best of `drafts`; without, the greedy
    answer.

    Parameters
    ----------
    max_tokens: longest outcome, in the server's tokens.
    path: the node it works for, in the records of what was asked.
    """

    endpoint: Endpoint
    max_tokens: int = 256
    path: str = ""

    repeatable = False
    """A server may answer otherwise; what it answered is in the records, where there are any."""

    @property
    def version(self) -> str:
        """What is known of the model: its name and address. A server that changes the model behind them goes unnoticed
        here, so give names that say which: the records say what the server called itself."""
        e = self.endpoint
        forms = [] if e.forms == "none" else [e.forms]
        return f"openai:{e.model}:{digest(e.base_url, e.model, dict(e.extra), self.max_tokens, *forms)}"

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """A group of `n` outcomes for each case. The same (cases, key) is asked once, and answered from the records
        after that. Outcomes have no tokens: theirs are another tokenizer's. A case's form goes along where the endpoint
        says how (`forms`). Raises `EndpointError`."""
        seen: Counter[str] = Counter()
        asks = []
        for case in cases:
            name = f"{key}/{case.id}/{seen[case.id]}"
            seen[case.id] += 1
            for i in range(n):
                seed = 0 if greedy else int(digest("endpoint", name, i), 16) % 2**31
                asks.append(Ask(case.prompt, self.max_tokens, 0.0 if greedy else temperature, seed, form=case.form))
        replies = iter(self.endpoint.ask(asks, "agent", self.path))
        return [
            Group(case, tuple(Outcome(r.text.strip(), finished=r.finished) for r in (next(replies) for _ in range(n))))
            for case in cases
        ]

    def record(self, folder: Path) -> None:
        """Keep replies in a run's folder, and use those that are there."""
        self.endpoint.record(folder)

    def state(self) -> dict[str, torch.Tensor]:
        """Raises `EndpointError`."""
        self._untrainable()

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Raises `EndpointError`."""
        self._untrainable()

    def _untrainable(self) -> NoReturn:
        raise EndpointError(
            f"{self.endpoint.where} cannot be trained or saved: its weights are not here. Use it in a finished "
            "assistant, with a reward model to pick the best of its drafts, or train a model of your own"
        )
