"""Truth beside reward: a watcher that measures what a node's agent has become after every round."""

from __future__ import annotations

from rrm.core.errors import Malformed
from rrm.core.judgements import Event
from rrm.core.parties import Watched
from rrm.measure.oracle import aspects, score


class Truth:
    """Logs, in phase "truth" of the node's metrics, the true score of fresh outcomes, per aspect too.

    What does not parse scores 0 here. `n` outcomes are sampled with a stream of their own, so that watching
    changes nothing; at the first round also from the starting model.
    """

    def __init__(self, n: int = 64) -> None:
        self.n = n
        self.last: dict[str, list[float]] = {}

    def __call__(self, node: Watched, event: Event) -> None:
        if event.phase == "done" or (event.phase == "sample" and event.round == 0 and event.of):
            self.measure(node, int(event.phase == "done"))

    def measure(self, node: Watched, step: int) -> None:
        """Log the means over fresh outcomes of the agent as it is now, as step 0 (the start) or 1 (after a round)."""
        if node.cases is None:
            return
        key = node.key("truth")
        groups = node.agent.sample(node.cases.draw(self.n, key), 1, key)
        scores: list[float] = []
        shares: dict[str, list[float]] = {}
        surface: dict[str, list[float]] = {}
        for group in groups:
            try:
                facts = node.task.facts(group.case, group.outcomes[0])
            except Malformed:
                scores.append(0.0)
                continue
            scores.append(score(facts))
            for aspect, share in aspects(facts).items():
                shares.setdefault(aspect, []).append(share)
            for name, amount in node.task.surface(group.case, group.outcomes[0]).items():
                surface.setdefault(name, []).append(amount)
        named = {"truth": scores, **shares, **surface}
        self.last.setdefault(node.task.path, []).append(sum(scores) / len(scores))
        node.emit("truth", step, 0, **{name: sum(values) / len(values) for name, values in named.items()})
