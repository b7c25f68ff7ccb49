"""`rrm export --agent, --reward-model, --tree`: a run's models as folders for others, each with its card."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rrm.core.errors import ModelError, RRMError, RunError
from rrm.exchange.agent_export import ExportedAgent, NoAdapter, export_agent
from rrm.exchange.reward_export import Exported, export_reward
from rrm.store.files import file_name, refuse_existing, whole_folder, write_atomically
from rrm.trust.documents import Cells, Document, Title, Words, as_md
from rrm.trust.node_cards import agent_card, reward_card
from rrm.trust.reported import RunTold, run_told
from rrm.trust.reporting import judged_by

REWARD = "reward-model"
"""The reward model's folder in its node's."""


@dataclass(frozen=True)
class HandedOut:
    """What became of a node."""

    node: str
    agent: str
    """The agent's folder, from the index; empty for none."""
    reward: str
    """The reward model's; empty for none."""
    why: tuple[str, ...]
    """Why there are not both."""


def hand_out_agent(run: Path, node: str, folder: Path, merged: bool = False, base: str = "") -> ExportedAgent:
    """`rrm.exchange.agent_export.export_agent`, with a card of what the run says of the node."""
    told = run_told(run)
    return export_agent(run, node, folder, lambda done: agent_card(told, done), merged, base=base)


def hand_out_reward(run: Path, node: str, folder: Path, refit: bool = False) -> Exported:
    """`rrm.exchange.reward_export.export_reward`, with a card of what the run says of the node."""
    told = run_told(run)
    return export_reward(run, node, folder, refit, card=reward_card(told, node) if node in told.nodes else ("", ""))


def hand_out_tree(
    run: Path, out: Path, merged: bool = False, refit: bool = False, base: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> list[HandedOut]:  # fmt: skip
    """Every node of a run, a folder each: its agent, and in it, where it can be exported, its reward model; with an
    index (README.md, index.json) that says of the others why they are not there.

    refit: reward models that do not read text alone are fitted anew. OUT appears whole or not at all. Raises
    `NoAdapter` where agents are whole models and `merged` is not asked for, `RunError` if nothing could be exported or
    OUT is there already.
    """
    refuse_existing(out)
    told = run_told(run)
    with whole_folder(out) as part:
        done = []
        for path in told.nodes:
            say(f"{path} ...")
            done.append(_node(run, told, path, part, merged, refit, base))
        if not any(one.agent or one.reward for one in done):
            raise RunError(f"{run}: no node can be exported: {done[0].why[0]}")
        index = {"run": told.title, "seed": told.seed, "root": told.root, "nodes": [asdict(one) for one in done]}
        write_atomically(part / "index.json", json.dumps(index, indent=2).encode() + b"\n")
        write_atomically(part / "README.md", as_md(Document([*_index(told, done)])).encode())
    return done


def _node(
    run: Path, told: RunTold, path: str, out: Path, merged: bool, refit: bool, base: str
) -> HandedOut:
    folder, why = out / file_name(path), []
    agent = reward = ""
    if (other := told.nodes[path].view.finished) is not None:
        is_ = "is a tool" if told.nodes[path].view.tool else "was trained in another run"
        return HandedOut(path, "", "", (f"it {is_} (version {other})",))
    try:
        export_agent(run, path, folder, lambda done: agent_card(told, done), merged, base=base)
        agent = folder.name
    except NoAdapter:
        raise
    except RRMError as error:
        why.append(f"agent: {error}")
    try:
        export_reward(run, path, folder / REWARD, refit, card=reward_card(told, path))
        reward = f"{folder.name}/{REWARD}"
    except (ModelError, RunError) as error:
        why.append(f"reward model: {error}")
    return HandedOut(path, agent, reward, tuple(why))


def _index(told: RunTold, done: list[HandedOut]) -> Iterator[Title | Words | Cells]:
    yield Title(1, f"The tree of {told.title}")
    yield Words(judged_by([told]), strong=True)
    yield Words(
        "One folder a node, named by its path (~ for /); assistants' nodes are below the node that they help to judge. "
        "Each folder's README.md says how to load it, by whom it was judged, and what is not shown."
    )
    rows = []
    for one in done:
        node = told.nodes[one.node]
        held = str(node.figures["held-out preferences predicted"])
        rows.append([
            one.node, node.view.instruction, one.agent or "none", one.reward or "none",
            f"{node.progress.comparisons:,}", held, "; ".join(one.why),
        ])  # fmt: skip
    head = ["node", "what was asked", "agent", "reward model", "judgements", "held-out preferences predicted"]
    yield Cells([*head, "what is not there"], rows)
