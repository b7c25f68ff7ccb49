"""How often agents are asked: in proportion to the nodes and to the outcomes, and never twice for the same."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from rrm.core.records import Case, Group, Outcome
from rrm.core.task import Assistant, Forgetful, assist
from rrm.core.validation import plant
from rrm.store.store import Store
from tests import toy

ONE = toy.SMALL.model_copy(update={"drafts": 1})


@dataclass
class Counting:
    """An agent that answers with its case's last word, and a reward model that is indifferent."""

    name: str
    asked: Counter = field(default_factory=Counter)
    version: str = "v"

    def sample(self, cases, n, key, temperature=1.0, greedy=False):
        self.asked.update(case.id for case in cases)
        return [Group(c, tuple(Outcome(f"{self.name} {c.prompt.split()[-1]} {i}") for i in range(n))) for c in cases]

    def score(self, groups):
        return [Equal(torch.zeros(len(g.outcomes)), torch.zeros(len(g.outcomes))) for g in groups]


@dataclass
class Equal:
    mean: torch.Tensor
    std: torch.Tensor


def grow(depth, breadth, memo, agents):
    """Assistants, `breadth` at every level, `depth` levels of them."""

    def finished(task):
        below = tuple(finished(sub) for sub in task.assistants)
        agent = agents.setdefault(task.path, Counting(task.name))
        return Assistant(task, agent, agent, below, memo)

    def tasks(level):
        if level == depth:
            return ()
        return tuple(toy.sub(f"s{level}{i}", settings=ONE, assistants=tasks(level + 1)) for i in range(breadth))

    return [finished(task) for task in plant(toy.task(assistants=tasks(0))).assistants]


def groups(n):
    return [Group(Case(f"w{i}"), (Outcome(f"a{i}"), Outcome(f"b{i}"))) for i in range(n)]


@pytest.mark.parametrize("depth, breadth", [(1, 1), (1, 4), (2, 2), (4, 1), (3, 3)])
@pytest.mark.parametrize("n", [2, 10])
def test_each_node_is_asked_once_per_outcome(tmp_path, depth, breadth, n):
    store, agents = Store(tmp_path / "run.db"), {}
    helpers = grow(depth, breadth, store, agents)
    first = assist(helpers, groups(n))
    nodes = sum(breadth**level for level in range(1, depth + 1))
    assert len(agents) == nodes
    assert [sum(a.asked.values()) for a in agents.values()] == [2 * n] * nodes  # two outcomes a comparison
    more = assist(helpers, [*groups(n), *groups(n + 1)])  # asked again, twice at once, with one comparison more
    assert [sum(a.asked.values()) for a in agents.values()] == [2 * (n + 1)] * nodes
    assert more[:n] == first == more[n : 2 * n]


def test_a_restart_asks_nobody_again(tmp_path):
    store = Store(tmp_path / "run.db")
    first = assist(grow(3, 2, store, {}), groups(5))
    store.close()
    agents = {}
    again = assist(grow(3, 2, Store(tmp_path / "run.db"), agents), groups(5))
    assert again == first and not any(agent.asked for agent in agents.values())


def test_a_new_version_is_asked_anew_and_only_with_what_rests_on_it(tmp_path):
    store, agents = Store(tmp_path / "run.db"), {}
    helpers = grow(2, 2, store, agents)
    assist(helpers, groups(3))
    before = {path: sum(a.asked.values()) for path, a in agents.items()}
    agents["toy/s00/s10"].version = "retrained"
    assist(helpers, groups(3))
    asked = {path for path, a in agents.items() if sum(a.asked.values()) > before[path]}
    assert asked == {"toy/s00", "toy/s00/s10"}


@pytest.mark.parametrize("drafts", [2, 3])
def test_drafts_do_not_multiply_down_the_tree(drafts):
    """Several drafts at every level: a level's agent is asked in proportion to its depth, not drafts ** depth."""
    agents = {}

    def finished(level):
        below = (finished(level + 1),) if level < 5 else ()
        settings = ONE.model_copy(update={"drafts": drafts})
        task = toy.sub(f"s{level}", settings=settings, path=f"s{level}")
        agents[level] = Counting(f"s{level}")
        return Assistant(task, agents[level], agents[level], below, Forgetful())

    assist([finished(1)], groups(3))
    asked = {level: sum(agent.asked.values()) for level, agent in agents.items()}
    assert asked[1] == 6
    assert all(asked[level] <= 6 * (1 + drafts * (level - 1)) for level in asked), asked
