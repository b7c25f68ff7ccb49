"""Forks that wait on the host: which, when, and that nothing else is different."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rrm import train
from rrm.core.records import Case, Group, Outcome
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import rloo
from rrm.learning.cloning import clone
from rrm.learning.fitting import fit_reward
from rrm.measure.memory import tree
from rrm.models import parking
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup
from rrm.models.parking import SHARE, Parking, Stay
from rrm.models.peft_folder import write_adapter
from rrm.models.reward import TextRewardModel
from rrm.users.bounded import BoundedUser
from tests.models.conftest import network, tokenizer
from tests.models.elsewhere import Accelerator, is_there, moved
from tests.models.test_reward import pairs

CPU = torch.device("cpu")
SIZE = 40  # bytes of a `Weights`
GROUP = PrefixGroup([5, 6, 7], [[8, 9, 2], [10]])
SETTINGS = Settings(
    steps=1, batch=2, group=2, max_tokens=3, lr=1e-3, reward_lr=1e-3, heads=2, reward_batch=4, reward_epochs=1,
    holdout=0.25,
)  # fmt: skip


@dataclass(eq=False)
class Weights:
    """As much of a fork as is parked."""

    trainable: dict[str, nn.Parameter] = field(default_factory=lambda: {"w": nn.Parameter(torch.zeros(10))})
    stay: Stay = field(default_factory=Stay)


def used(lot: Parking, *forks: Weights, grad: bool = False) -> None:
    for fork in forks:
        with torch.set_grad_enabled(grad):
            lot.enter(fork)
            lot.leave(fork)


def several(forks: int, **more: Any) -> tuple[Parking, list[Weights]]:
    """Where two have room, and `forks` of them."""
    lot = Parking(**({"device": lambda: CPU, "free": lambda: 2 * SHARE * SIZE, "host": lambda: None} | more))
    made = [Weights() for _ in range(forks)]
    for one in made:
        lot.add(one)
    return lot, made


def away(forks: Sequence[Any]) -> list[int]:
    return [i for i, one in enumerate(forks) if one.stay.away]


def test_the_ones_that_were_used_least_lately_wait() -> None:
    lot, made = several(4)
    assert away(made) == [0, 1]
    used(lot, made[2], made[0])
    assert away(made) == [1, 3]
    del made[2]
    gc.collect()
    used(lot, made[1])  # nobody has the one that would have had to go
    assert away(made) == [2]


@pytest.mark.parametrize("free", [None, 4 * SHARE * SIZE])
def test_where_there_is_room_nothing_moves(free: int | None) -> None:
    lot, made = several(4, free=lambda: free)
    used(lot, *made, *made)
    assert away(made) == []


def test_the_host_must_have_room() -> None:
    assert away(several(4, host=lambda: 2 * SIZE - 1)[1]) == []
    assert away(several(4, host=lambda: 2 * SIZE)[1]) == [0, 1]


def test_what_a_graph_or_an_optimizer_hangs_on_stays() -> None:
    lot, made = several(2)
    made += [Weights() for _ in range(4)]
    with torch.no_grad():
        lot.enter(made[0])
    used(lot, made[1], grad=True)
    lot.add(made[2])
    made[2].stay.trainings += 1
    lot.add(made[3])
    made[3].trainable["w"].grad = torch.zeros(10)
    for one in made[4:]:
        lot.add(one)
    assert away(made) == [4]
    lot.leave(made[0])
    used(lot, made[4])
    assert away(made) == [0, 5]


def test_what_moves_while_something_is_sampled_can_be_trained_afterwards() -> None:
    weights = Weights().trainable
    with torch.inference_mode():
        parking._move(weights, torch.float64)  # type: ignore[arg-type]  # another place, as far as a CPU has one
    assert weights["w"].dtype == torch.float64 and not weights["w"].is_inference()


# --- forks, where devices are told apart ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lora", "full"])
def there(request: pytest.FixtureRequest) -> Iterator[Backbone]:
    """On a pretended accelerator that has room for one fork."""
    adamw, plain = torch.optim.AdamW, {"fused": False, "foreach": False}
    with pytest.MonkeyPatch.context() as patch, Accelerator():
        patch.setattr(torch.optim, "AdamW", lambda parameters, **kwargs: adamw(parameters, **(kwargs | plain)))
        backbone = Backbone("tiny", moved(network()), tokenizer(), request.param)
        size = sum(p.numel() * 4 for p in backbone.fork("measured").parameters())
        backbone.parking.free = lambda: SHARE * size
        yield backbone


def is_away(fork: Fork) -> bool:
    (here,) = {not is_there(p) for p in fork.parameters()}
    assert here == fork.stay.away
    return here


def test_a_fork_that_waits_is_what_it_was(there: Backbone, tmp_path: Path) -> None:
    with torch.no_grad():
        one = there.fork("one")
        one.load({name: value + 0.1 for name, value in one.state().items()})
        values, state, version = one.logprobs([GROUP])[0], one.state(), one.version
        kept = [*one.parameters()]
        two = there.fork("two")
        assert is_away(one) and not is_away(two)
        stamp = one._version
        assert all(torch.equal(one.state()[name], value) for name, value in state.items())
        assert one.version == version and one._version is stamp
        if there.adapters == "lora":
            write_adapter(one, tmp_path / "one")
            assert (tmp_path / "one" / "adapter_model.safetensors").exists()
        two.load(one.state())
        two.logprobs([GROUP])
        one.load({name: value + 0.1 for name, value in state.items()})  # where it waits
        assert is_away(one) and one.version != version
        one.load(state)
        assert all(torch.equal(a, b) for a, b in zip(one.logprobs([GROUP])[0], values, strict=True))
        assert is_away(two) and not is_away(one) and one.version == version == two.version
        assert all(a is b for a, b in zip(one.parameters(), kept, strict=True))
        two.merged()
        assert not is_away(two)


def test_a_gradient_is_found_after_others_have_computed(there: Backbone) -> None:
    one, two, three = (there.fork(name) for name in ("one", "two", "three"))
    assert is_away(one) and is_away(two)
    with one.training():
        loss = one.logprobs([GROUP])[0][0].sum()
        with torch.no_grad():
            two.logprobs([GROUP])
            three.logprobs([GROUP])
        assert is_away(two) and not is_away(one)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(is_there(p.grad) for p in one.parameters() if p.grad is not None)
    with torch.no_grad():
        two.logprobs([GROUP])
    assert is_away(one)


def work(backbone: Backbone, turns: int) -> dict[str, torch.Tensor]:
    """Everything that three forks do in turn."""
    agent, helper = (TextAgent(backbone, backbone.fork(name), 3) for name in ("agent", "helper"))
    reward = TextRewardModel(backbone, backbone.fork("reward"), SETTINGS)
    said: list[float] = []

    def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
        answers = helper.sample([g.case for g in groups], 1, "help")
        said.extend(value for g in answers for value in g.outcomes[0].logprobs)
        return [s.mean for s in reward.score(groups)]

    cases = Pool(tuple(Case(f"w{i} w{i + 1}") for i in range(3, 6)))
    for turn in range(turns):
        fit_reward(reward, pairs(1), SETTINGS, f"fit {turn}")
        rloo.improve(agent, judge, cases, SETTINGS, f"key {turn}", lambda *_: None)  # type: ignore[arg-type]
    return agent.state() | reward.state() | {"said": torch.tensor(said)}


def test_a_training_goes_on_where_they_take_turns(there: Backbone) -> None:
    """Nothing is computed of what is on two devices."""
    assert all(bool(value.isfinite().all()) for value in work(there, 1).values())


@pytest.mark.parametrize("adapters", ["lora", "full"])
def test_a_training_gives_the_same_bits(tiny: Callable[..., Backbone], adapters: str, monkeypatch: Any) -> None:
    moves: list[torch.device] = []

    def move(weights: dict[str, nn.Parameter], where: torch.device) -> None:
        moves.append(where)
        with torch.inference_mode(False):
            for parameter in weights.values():
                parameter.data = parameter.data.clone()

    monkeypatch.setattr(parking, "_move", move)
    backbone = tiny(adapters)
    apart = work(backbone, 2)
    assert not moves
    backbone.parking.free = lambda: 1
    together = work(backbone, 2)
    assert len(moves) > 9
    assert list(apart) == list(together) and all(torch.equal(apart[name], together[name]) for name in apart)


def test_an_agent_that_was_shown_how_may_wait_afterwards(tiny: Callable[..., Backbone]) -> None:
    """Cloning is a training, too: a pass of its does not keep it on the device for good."""
    backbone = tiny("lora")
    agent = TextAgent(backbone, backbone.fork("agent"), 8)
    seen: list[int] = []
    shown = [(Case("3 4 5"), Outcome("6 7", (6, 7)))]
    clone(agent, shown, Settings(clone=1), "key", lambda *_: seen.append(agent.fork.stay.trainings))
    assert seen == [1] and not agent.fork.stay.graph and not agent.fork.stay.trainings


def optimized(backbone: Backbone) -> Trained:
    agent = TextAgent(backbone, backbone.fork("agent"), 3)

    def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
        return [torch.arange(len(g.outcomes)).float() for g in groups]

    cases = Pool(tuple(Case(f"w{i} w{i + 1}") for i in range(3, 6)))
    return agent, lambda: rloo.improve(agent, judge, cases, SETTINGS, "key", lambda *_: None)  # type: ignore[arg-type]


def fitted(backbone: Backbone) -> Trained:
    reward = TextRewardModel(backbone, backbone.fork("reward"), SETTINGS)
    return reward, lambda: fit_reward(reward, pairs(1), SETTINGS, "key")


def cloned(backbone: Backbone) -> Trained:
    agent = TextAgent(backbone, backbone.fork("agent"), 8)
    shown = [(Case("3 4 5"), Outcome("6 7", (6, 7)))]
    return agent, lambda: clone(agent, shown, Settings(clone=1), "key", lambda *_: None)


Trained = tuple[TextAgent | TextRewardModel, Callable[[], object]]


@pytest.mark.parametrize("made", [optimized, fitted, cloned])
def test_a_training_that_broke_off_leaves_no_gradient(
    tiny: Callable[..., Backbone], made: Callable[[Backbone], Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory ran out between two parts: taken again, the weights are those of one that was not broken off."""

    def out_of_memory(*given: object) -> None:
        raise torch.OutOfMemoryError

    states = []
    for broken in (False, True):
        one, train = made(tiny("lora"))
        if broken:
            with monkeypatch.context() as patched, pytest.raises(torch.OutOfMemoryError):
                patched.setattr(torch.nn.utils, "clip_grad_norm_", out_of_memory)
                train()
            assert all(p.grad is None for p in one.fork.parameters()) and not parking._stays(one.fork)
            for parameter in one.fork.parameters():
                parameter.grad = torch.ones_like(parameter)  # somebody's own
        train()
        states.append(one.state())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_of_a_tree_that_was_trained_finished_nodes_wait(tmp_path: Path) -> None:
    """Nothing but a training marks a fork as one whose gradient may be asked for."""
    backbone = Backbone("tiny", network(), tokenizer(), "lora")
    backbone.parking.free = lambda: 1
    settings = Settings(
        rounds=1, cases=2, outcomes=2, comparisons=2, frame_cases=0, max_tokens=4, drafts=1, steps=1, batch=2, group=2,
        reward_trunk="trained", reward_epochs=1,
    )  # fmt: skip
    root = train(tree(2, settings), BoundedUser(), backbone, tmp_path)
    forks = {one.name: one for one in backbone.parking._forks if one.trainable}
    assert len(forks) == 4 and not any(one.stay.graph for one in forks.values())
    assert {name for name, one in forks.items() if one.stay.away} == {n for n in forks if "sub1" in n}, root.task
