"""`rrm.testing` passes what keeps its contract and names what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rrm
from rrm.core.contracts import ContractError
from rrm.core.errors import StoreError
from rrm.core.records import Group
from rrm.core.validation import plant
from rrm.learning.text_maker import TextMaker
from rrm.models.backbone import Backbone
from rrm.testing import check_agent, check_learner, check_maker, check_policy, check_user
from tests import toy
from tests.bandits import example
from tests.models.conftest import network, tokenizer

BANDIT = example("custom_agent")
CASES = BANDIT.pull.cases
SETTINGS = BANDIT.pull.settings


def comparisons(n: int = 8) -> list[rrm.Comparison]:
    task = plant(BANDIT.pull)
    made = []
    for i, case in enumerate(CASES.draw(n, "c")):
        arms = [BANDIT.ARMS[i % 3], BANDIT.ARMS[(i + 1) % 3]]
        outcomes = tuple(rrm.Outcome("", data={"arm": arm}) for arm in arms)
        pair = rrm.Pair.of(task.path, Group(case, outcomes), 0, 1)
        made.append(rrm.Comparison(pair, rrm.Judgement(float(i % 2)), 0, "u"))
    return made


GROUPS = [Group(c.case, (c.a, c.b)) for c in comparisons()]


def test_ours_keep_their_contracts() -> None:
    check_maker(BANDIT.Bandits(), BANDIT.pull, rrm.BoundedUser(attention=4))
    for adapters in ("full", "lora"):
        backbone = Backbone("tiny", network(), tokenizer(), adapters)  # type: ignore[arg-type]
        for how in ("frozen", "trained"):
            settings = toy.SMALL.model_copy(update={"cases": 6, "reward_trunk": how})
            check_maker(TextMaker(backbone), toy.task(settings=settings), rrm.BoundedUser(attention=4))


def test_users_of_ours_keep_theirs() -> None:
    pairs = [c.pair for c in comparisons(8)]
    check_user(lambda: rrm.BoundedUser(attention=4), plant(BANDIT.pull), pairs)


class Restless(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def sample(self, cases: Any, n: int, key: str, temperature: float = 1.0, greedy: bool = False) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().sample(cases, n, f"{key}/{self.calls}", temperature, greedy)


class Short(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def sample(self, cases: Any, n: int, key: str, temperature: float = 1.0, greedy: bool = False) -> Any:
        return super().sample(cases, max(1, n - 1), key, temperature, greedy)


class Unsaid(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def sample(self, cases: Any, n: int, key: str, temperature: float = 1.0, greedy: bool = False) -> Any:
        return [Group(case, (rrm.Outcome("a", data={"x": object()}),) * n) for case in cases]


class Unnamed(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    version = "always the same"


class Shared(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def state(self) -> Any:
        return {"logits": self.logits}


class Lenient(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def load(self, state: Any) -> None:
        self.logits = state.get("logits", torch.zeros(3)).clone()


class Credulous(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    def improve(self, judge: Any, cases: Any, settings: Any, key: str, log: Any) -> Any:
        def blind(groups: Any) -> Any:
            return [reward.nan_to_num() for reward in judge(groups)]

        return super().improve(blind, cases, settings, key, log)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Restless, "the same .* gave other outcomes; set repeatable = False"),
        (Short, r"sample\(n=3\) gave a group of 2 outcomes"),
        (Unnamed, "improve changed the weights and not `version`"),
        (Shared, r"state\(\) is no copy"),
        (Lenient, "no weight may be made up|loads a state with a key that it does not know"),
        (Credulous, "took rewards that are not finite"),
    ],
)
def test_a_policy_that_breaks_its_contract_is_told_how(kind: Any, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        check_policy(kind(), CASES, SETTINGS)


def test_outcomes_that_the_store_would_lose_are_found() -> None:
    with pytest.raises(StoreError, match="it is not JSON"):
        check_agent(Unsaid(), CASES.draw(2, "x"))


class Crowded(BANDIT.WinRates):  # type: ignore[name-defined, misc]
    """A score that hangs on how many others are scored."""

    def score(self, groups: Any) -> Any:
        scores = super().score(groups)
        for one in scores:
            one.mean = one.mean + len(groups)
        return scores


class Flat(BANDIT.WinRates):  # type: ignore[name-defined, misc]
    def score(self, groups: Any) -> Any:
        scores = super().score(groups)
        for one in scores:
            one.heads = one.mean
        return scores


class Eager(BANDIT.WinRates):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.values = torch.zeros(3)


class Forgetting(BANDIT.WinRates):  # type: ignore[name-defined, misc]
    def load(self, state: Any) -> None:
        super().load(state)
        self.values = self.values.round()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Crowded, "when it is scored alone"),
        (Flat, r"not \(2,\), \(2,\) and \(2, heads\)"),
        (Eager, "it scores before it was fitted"),
        (Forgetting, "gives another version|gives other scores"),
    ],
)
def test_a_reward_model_that_breaks_its_contract_is_told_how(kind: Any, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        check_learner(kind, comparisons(), GROUPS, SETTINGS)


class Whim(rrm.BoundedUser):
    """Judges by how often it was asked in this process, which `recall` does not restore."""

    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        asked = self.__dict__.setdefault("asked", [])
        asked.append(pair.id)
        return rrm.Judgement(float(len(asked) % 2))


class Sure(rrm.BoundedUser):
    def judge(self, task: rrm.Task, pair: rrm.Pair) -> rrm.Judgement:
        return rrm.Judgement(2.0)


@pytest.mark.parametrize(("kind", "why"), [(Whim, "after recalling 3 judgements"), (Sure, "a preference of 2.0")])
def test_a_user_that_breaks_its_contract_is_told_how(kind: Any, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        check_user(kind, plant(BANDIT.pull), [c.pair for c in comparisons(7)])
