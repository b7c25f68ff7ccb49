"""Train a real model to solve word problems, with and without tools that help the user judge.

    python scripts/train_word_problems.py --data FOLDER --seed 0

The agent is a language model; the questions are GSM8K's; the assistants are tools (is the arithmetic right, does each
step follow, was the question answered). The user is simulated: it can check a few facts a comparison, the exact ones
of the task, and fills the rest with a prior. Half of the questions are for training, the other half for measuring.
Writes OUT/report-ARMS.json; the same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from rrm import BoundedUser, Pool
from rrm.command.configuration import configure, split
from rrm.loop.training import train
from rrm.measure.arms import Arm, agreement, held_out, quality, reward_quality, start_agent
from rrm.measure.experiment import shown
from rrm.models.backbone import Backbone
from rrm.view.live import Live
from rrm_tasks.word_problems import problems, word_problems

ARMS = ("unassisted", "assisted")


def main() -> None:
    """Train the arms, measure them on the other half of the questions, and write and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder that has gsm8k/, or $RRM_DATA")
    parser.add_argument("--model", default="smollm2", help="as for rrm train")
    parser.add_argument("--out", type=Path, default=Path("runs/word-problems"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--attention", type=int, default=2, help="facts the user can check for one comparison")
    parser.add_argument("--held-out", type=int, default=32, help="held-out questions for measuring")
    parser.add_argument("--set", nargs="*", default=[], metavar="NODE.KEY=VALUE", help="as for rrm train")
    args = parser.parse_args()

    logging.disable_progress_bar()
    began = time.monotonic()
    cases = problems(args.data)
    task = replace(word_problems(args.data), cases=Pool(cases[::2]))
    task = configure(task, split(args.set)[0])
    test = Pool(cases[1::2]).draw(args.held_out, f"test {args.seed}")

    backbone = Backbone.load(args.model)
    report: dict[str, Any] = {}
    for arm in args.arms:
        tree = task if arm == "assisted" else replace(task, assistants=())
        user = BoundedUser(attention=args.attention, seed=args.seed)
        live = Live(tree)
        print(arm, flush=True)
        with live:
            root = train(tree, user, backbone, args.out / arm, args.seed, [live])
        pairs = held_out(task, backbone, test, f"held out {args.seed}")
        trained = root.agent.sample(test, 2, key=f"score {args.seed}")
        report["start"] = quality(task, start_agent(task, backbone).sample(test, 2, key=f"score {args.seed}"))
        report[arm] = {
            "agreement": agreement(Arm(arm, root, user), pairs), **quality(task, trained), **reward_quality(root),
            "texts": [group.outcomes[0].text for group in trained[:4]],
        }  # fmt: skip
    report["seconds"] = round(time.monotonic() - began)
    (args.out / f"report-{'-'.join(args.arms)}.json").write_text(json.dumps(report, indent=2) + "\n")
    show(report, args.arms)
    print(f"{report['seconds']} s; everything is in {args.out}")


def show(report: dict[str, Any], arms: Sequence[str]) -> None:
    """Print the start and the arms, a row each."""
    table = Table("arm", "agreement", "true score", "arithmetic", "answer", "malformed", "reward model, held out")
    for arm in ("start", *arms):
        row = report[arm]
        by = {aspect: shown(value) for aspect, value in row["aspects"].items()}
        agrees = shown(row["agreement"]) if "agreement" in row else ""
        fitted = f"{row['reward_model']:.2f}" if "reward_model" in row else ""
        table.add_row(
            arm, agrees, shown(row["score"]), by.get("arithmetic", ""), by.get("answer", ""),
            f"{row['malformed']:.2f}", fitted,
        )  # fmt: skip
    Console(width=132).print(table)


if __name__ == "__main__":
    main()
