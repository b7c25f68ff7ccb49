"""A trained node out of its run's folder, on a model loaded afresh: its reward model, its agent, or the whole of it at
work; and what the former makes of comparisons that were judged after its fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rrm.core.errors import RunError
from rrm.core.judgements import ACCEPT
from rrm.core.parallel import World
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task
from rrm.core.validation import plant
from rrm.loop.foreseeing import margins
from rrm.loop.lock import locked
from rrm.loop.training import ACTING
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.features import FINDINGS, SURPRISE
from rrm.models.precision import Precision
from rrm.models.reward import TextRewardModel, trunk
from rrm.store.config import read_config
from rrm.store.journal import Journal


def reward_of(run: Path | str, node: str, round: int | None = None, exact: bool = False) -> TextRewardModel:
    """The reward model of a node, as of a round (the last by default), computing as it did in the run; if `exact`, in
    float32 whatever it computed in there.

    It comes with a backbone of its own (`reward.backbone`). Raises `RunError` if there is no such node or round, and
    `ModelError` if the run's starting model cannot be loaded.
    """
    folder = Path(run)
    config = _config(folder)
    state = _state(folder, config, node, "reward", round)
    return _rewarding(_backbone(folder, config, "lora" if _adapters(state) else "auto", exact), config, node, state)


def _rewarding(
    backbone: Backbone, config: Mapping[str, Any], node: str, state: Mapping[str, Any]
) -> TextRewardModel:  # fmt: skip
    settings = Settings(**as_set(config["tree"][node]["settings"], backbone.rates or {}))
    fork = trunk(backbone, f"{node} reward", "trained" if any(k.startswith("trunk.") for k in state) else "frozen")
    beside = state["heads.weight"].shape[1] - backbone.d - (SURPRISE if settings.surprise else 0)
    reward = TextRewardModel(backbone, fork, settings, beside // FINDINGS)
    reward.load(state)
    return reward


def agent_of(run: Path | str, node: str, round: int | None = None) -> TextAgent:
    """The agent of a node, as `reward_of` gives its reward model. Raises what that does."""
    folder = Path(run)
    config = _config(folder)
    state = _state(folder, config, node, "agent", round)
    return _acting(_backbone(folder, config, "lora" if _adapters(state) else "full"), config, node, state)


def _acting(backbone: Backbone, config: Mapping[str, Any], node: str, state: Mapping[str, Any]) -> TextAgent:
    agent = TextAgent(backbone, backbone.fork(node), Settings(**config["tree"][node]["settings"]).max_tokens)
    agent.load(state)
    return agent


def assistant_of(run: Path | str, node: str, tree: Task) -> Assistant:
    """A finished node at work, with all that is below it, as of their last rounds, on one model loaded afresh.

    tree: the run's, as code that makes cases and reads findings. It may have changed since; of the run are the settings
    and the weights. Raises as `reward_of`, and `RunError` for a tree that lacks the node.
    """
    folder = Path(run)
    config = _config(folder)
    nodes = {one.path: one for one in plant(tree).walk()}
    if node not in nodes:
        raise RunError(f"the tree has no node {node!r}; it has {', '.join(nodes)}: give the tree that {folder} is of")
    trained = list(_unfinished(nodes[node]))
    if lacking := [one.path for one in trained if one.path not in config["tree"]]:
        raise RunError(f"{folder} has no node {lacking[0]!r} as the tree has; its nodes: {', '.join(config['tree'])}")
    states = {
        (one.path, part): _state(folder, config, one.path, part, None)
        for one in trained for part in ("reward", "agent")
    }  # fmt: skip
    adapters: Literal["auto", "lora"] = "lora" if any(map(_adapters, states.values())) else "auto"
    return _assembled(nodes[node], _backbone(folder, config, adapters), config, states)


def _unfinished(task: Task) -> Iterator[Task]:
    """A node and all below it that a run trains: none that was finished elsewhere."""
    yield task
    for sub in task.assistants:
        if isinstance(sub, Task):
            yield from _unfinished(sub)


def _assembled(
    task: Task, backbone: Backbone, config: Mapping[str, Any], states: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Assistant:
    path = task.path
    helpers = tuple(
        sub if isinstance(sub, Assistant) else _assembled(sub, backbone, config, states) for sub in task.assistants
    )
    reward = _rewarding(backbone, config, path, states[path, "reward"])
    agent = _acting(backbone, config, path, states[path, "agent"])
    settings = Settings(**as_set(config["tree"][path]["settings"], backbone.rates or {}))
    return Assistant(replace(task, settings=settings, assistants=helpers), agent, reward, helpers)


def _state(folder: Path, config: Mapping[str, Any], node: str, part: str, round: int | None) -> dict[str, Any]:
    """The weights of a node's agent or reward model, of a round, or of the last."""
    tree: dict[str, Any] = config["tree"]
    if node not in tree:
        raise RunError(f"{folder} has no node {node!r}; its nodes: {', '.join(tree)}")
    store = Journal(folder)
    try:
        rounds = sorted(number for number, kind in store.checkpoints(node) if kind == part)
        if not rounds or round not in (None, *rounds):
            have = f"rounds {', '.join(map(str, rounds))}" if rounds else "no round so far"
            wanted = "" if round is None else f" of round {round}"
            what = "reward model" if part == "reward" else part
            raise RunError(f"{folder}: no {what}{wanted} at {node!r}; {have}. Train it further: rrm train")
        state = store.weights(node, rounds[-1] if round is None else round, part)
    finally:
        store.close()
    assert state is not None  # it is among the checkpoints
    return state


def _adapters(state: Mapping[str, Any]) -> bool:
    """Whether weights are of an adapter: a tiny model may have been trained with some, too (`--sampler vllm`)."""
    return any(".lora_" in name for name in state)


def _backbone(
    folder: Path, config: Mapping[str, Any], adapters: Literal["auto", "full", "lora"], exact: bool = False
) -> Backbone:
    """The starting model of a run, computing as it did there, or in float32."""
    name, fingerprint = config["model"]["name"], config["model"]["fingerprint"]
    if re.split(r"[ (]", name)[0] in ACTING:
        raise RunError(
            f"{folder}: its agents act ({name}), and its reward models read steps; one that reads text can be reopened "
            "and exported, these cannot"
        )
    notes = config.get("about", {})
    decided = notes.get("decided", notes)
    precision = Precision() if exact else Precision(**decided.get("precision", {}))
    backbone = Backbone.load(  # never wider than the run had it
        name, adapters, template=config["model"].get("prompts", {}).get("template"),
        precision="float32" if exact else "auto" if precision.weights == "float32" else precision.weights,
    )  # fmt: skip
    if backbone.fingerprint != fingerprint:
        raise RunError(f"{folder} was trained from {name!r} with other weights than it has now; put those back")
    backbone.precision = precision
    backbone.rates = decided.get("rates")
    return backbone


def score_ahead(run: Path | str, node: str) -> int:
    """Do for a node of a finished run what `rrm.loop.foreseeing.foresee` does while one trains, for runs of before it
    did, of agents that write text. Returns how many comparisons were scored.

    Loads the starting model and every round's reward model, and takes as long as scoring does; what is kept is kept in
    the run's `scores`. Raises `RunError` for agents that act (their reward models are not reopened), for a node
    without a reward model, and while the run trains.
    """
    folder, scored = Path(run), 0
    with locked(folder, World()):
        reward = reward_of(folder, node)
        journal = Journal(folder)
        try:
            judged = journal.comparisons(node)
            first = {one.id: i for i, one in reversed([*enumerate(judged)])}
            comparisons = [one for i, one in enumerate(judged) if first[one.id] == i]  # again it is nothing new
            for round, part in sorted(journal.checkpoints(node)):
                fresh = [one for one in comparisons if one.round == round + (one.purpose != ACCEPT)]
                if part == "reward" and fresh:
                    state = journal.weights(node, round, "reward")
                    assert state is not None  # it is among the checkpoints
                    reward.load(state)
                    journal.score(node, round, margins(reward, reward.score, fresh))
                    scored += len(fresh)
        finally:
            journal.close()
    return scored


def as_set(settings: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    """Without the rates that nobody had set: config.json has their defaults, and the run went by its own."""
    return {k: v for k, v in settings.items() if k not in rates or v != Settings.model_fields[k].default}


def _config(folder: Path) -> dict[str, Any]:
    found = read_config(folder)
    lacking = [key for key in ("tree", "model") if key not in found]
    if lacking or not {"name", "fingerprint"} <= {*found["model"]}:
        raise RunError(f"{folder} says in no config.json with which model it was trained; give the folder of a run")
    return found
