"""What one setting of the root is worth: train it again with another value, on the assistants of finished demos.

    python scripts/seeds.py --out runs/seeds
    python scripts/ablation.py --runs runs/seeds --set surprise=false --set choose=random --set findings=false
    python scripts/ablation.py --runs runs/seeds --refit --set surprise=false --set findings=false

With --refit only the reward models are fitted again, those of every node, on the comparisons that the demos kept:
minutes instead of an hour, and it says only how well they predict the user on cases held out. Else the root is trained
again, and everything below it stays as it is, so differences come from that one setting of the root alone. Writes
RUNS/ablation.json (--refit: prints only); what is there already is not run again. Simulated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rrm import BoundedUser, train
from rrm.command.configuration import configure
from rrm.core.validation import check
from rrm.learning.fitting import fit_reward
from rrm.measure.arms import quality, reward_quality
from rrm.measure.experiment import shown
from rrm.measure.stats import clipped, of_numbers
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk
from rrm.store.files import write_atomically
from rrm.store.store import Store
from rrm.worlds.papers import Briefs
from rrm_tasks.paper import paper


def again(folder: Path, seed: int, setting: str, backbone: Backbone, attention: int, cases: int) -> dict[str, float]:
    """The root's true score and its reward model's held-out accuracy, with the setting. "" changes nothing."""

    def user() -> BoundedUser:
        return BoundedUser(attention=attention, seed=seed)

    finished = train(paper(seed=seed), user(), backbone, folder / "recursive", seed)
    assignments = [f"paper.{setting}"] if setting else []
    task = configure(replace(paper(seed=seed), assistants=()), assignments)
    out = folder / "ablation" / (setting or "unchanged")
    root = train(replace(task, assistants=finished.helpers), user(), backbone, out, seed)
    test = Briefs(seed, "held-out").draw(cases, "score")
    found = quality(root.task, root.agent.sample(test, 2, key=f"score {seed}"))
    return {"score": found["score"]["mean"], "malformed": found["malformed"], **reward_quality(root)}


def refit(folder: Path, setting: str, backbone: Backbone) -> dict[str, tuple[float, int]]:
    """Per node of the recursive arm: held-out accuracy of its reward model, refitted, and on how many comparisons."""
    store, found = Store(folder / "recursive" / "run.db"), {}
    for node in check(paper()).walk():
        settings = node.settings.model_copy(update={"holdout": 0.3})
        alone = replace(node, assistants=(), settings=settings)
        settings = configure(alone, [f"*.{setting}"] if setting else []).settings
        fork = trunk(backbone, f"{node.path} refit", settings.reward_trunk)
        reward = TextRewardModel(backbone, fork, settings, len(node.assistants))
        report = fit_reward(reward, store.comparisons(node.path), settings, "refit")
        if report.holdout_accuracy is not None:
            found[node.path] = (report.holdout_accuracy, report.n_holdout)
    store.close()
    return found


def show_refits(runs: Path, seeds: list[int], settings: list[str]) -> None:
    """Means over seeds, node by node."""
    backbone = Backbone.load()
    table = Table("held-out accuracy of the reward model", *(setting or "unchanged" for setting in settings))
    rows = {setting: [refit(runs / str(seed), setting, backbone) for seed in seeds] for setting in settings}
    for path in rows[settings[0]][0]:
        right = [[one[path][0] for one in rows[setting] if path in one] for setting in settings]
        table.add_row(path, *(shown(clipped(of_numbers(values)), 2) for values in right))
    Console(width=132).print(table)


def main() -> None:
    """Run what RUNS/ablation.json lacks, keep each result as it comes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--attention", type=int, default=4)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--refit", action="store_true", help="only refit the reward models")
    args = parser.parse_args()
    if args.refit:
        show_refits(args.runs, args.seeds, ["", *args.settings])
        return
    path = args.runs / "ablation.json"
    found: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text()) if path.exists() else {}
    backbone = Backbone.load()
    settings = ["", *args.settings]
    for seed in args.seeds:
        for setting in settings:
            row = found.setdefault(setting or "unchanged", {})
            if str(seed) not in row:
                row[str(seed)] = again(args.runs / str(seed), seed, setting, backbone, args.attention, args.held_out)
                print(seed, setting or "unchanged", row[str(seed)], flush=True)
                write_atomically(path, json.dumps(found, indent=1).encode() + b"\n")
    show({name: rows for name, rows in found.items() if name in ("unchanged", *args.settings)}, args.seeds)


def show(found: dict[str, dict[str, dict[str, float]]], seeds: list[int]) -> None:
    """Means over seeds, and differences paired by seed."""

    def values(name: str, what: str) -> list[float]:
        return [found[name][str(seed)].get(what, float("nan")) for seed in seeds]

    table = Table("root", "true score", "less than unchanged", "reward model (held out)", "malformed")
    for name in found:
        less: Any = [a - b for a, b in zip(values("unchanged", "score"), values(name, "score"), strict=True)]
        shares = (clipped(of_numbers(values(name, what))) for what in ("score", "reward_model", "malformed"))
        score, *rest = (shown(share, 2) for share in shares)
        table.add_row(name, score, shown(of_numbers(less), 2), *rest)
    Console(width=132).print(table)


if __name__ == "__main__":
    main()
