"""Train the paper tree in four arms and measure each against the exact truth.

    python scripts/demo.py --out runs/demo

Simulated throughout: a bounded user, an exact world, a tiny model. Writes OUT/report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rrm import BoundedUser, Task
from rrm.core.errors import RRMError
from rrm.core.judgements import Event
from rrm.core.parties import Watch, Watched
from rrm.measure.adversary import Misleading
from rrm.measure.arms import ARMS, Arm, agreement, compare_arms, held_out, train_arms
from rrm.measure.experiment import shown
from rrm.measure.memory import peak
from rrm.measure.watch import Truth
from rrm.models.backbone import Backbone
from rrm.view.accuracy import Predicted
from rrm.view.live import Live
from rrm.worlds.papers import Briefs
from rrm_tasks.paper import paper


def main() -> None:
    """Train the arms that are not trained yet, measure all of them, and write and print the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=100, help="held-out cases for measuring")
    parser.add_argument("--attention", type=int, default=4, help="facts the user can check for one comparison")
    parser.add_argument(
        "--mislead", type=float, metavar="SHARE",
        help="also measure agreement when the assistants turn this share of their findings around",
    )
    args = parser.parse_args()

    began = time.monotonic()
    backbone = Backbone.load(args.model)
    task = paper(seed=args.seed)

    def user() -> BoundedUser:
        return BoundedUser(attention=args.attention, seed=args.seed)

    with Display(began) as display:
        arms = train_arms(task, user, backbone, args.out, args.seed, display.watch)
    cases = Briefs(args.seed, "held-out")
    report = compare_arms(arms, backbone, cases, args.held_out, args.seed)
    if args.mislead:
        value = misled(arms["recursive"], user(), task, backbone, cases, args)
        report["misled"] = {"share": args.mislead, "agreement": value}
    report["seconds"] = round(time.monotonic() - began, 1)
    report["peak_memory_mb"] = round(peak())
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    show_report(report)
    print(f"{report['seconds']:.0f} s, {report['peak_memory_mb']} MB; everything is in {args.out}")


def misled(
    arm: Arm, user: BoundedUser, task: Task, backbone: Backbone, cases: Briefs, args: argparse.Namespace
) -> dict[str, float]:
    """Agreement of a user who has never met these assistants before and is misled by them."""
    helpers = tuple(Misleading.of(helper, args.mislead, args.seed) for helper in arm.root.helpers)
    held = held_out(task, backbone, cases.draw(args.held_out, "agreement"), f"held out {args.seed}")
    return agreement(Arm("misled", replace(arm.root, helpers=helpers), user), held)


class Display:
    """Shows the arm in training, as a live tree on a terminal and as lines elsewhere; and logs truth beside reward, for
    the curves of `rrm view`."""

    def __init__(self, began: float) -> None:
        self.began, self.stack = began, ExitStack()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def watch(self, arm: str, task: Task) -> Watch:
        """A watcher for the arm that begins now; what showed the one before is closed."""
        self.stack.close()
        print(f"{time.monotonic() - self.began:.0f} s: {arm}", flush=True)
        live, truth = self.stack.enter_context(Live(task)), Truth()

        def both(node: Watched, event: Event) -> None:
            live(node, event)
            truth(node, event)

        return both


def show_report(report: dict[str, Any]) -> None:
    """The arms side by side; the nodes before and after training."""

    aspects = list(report["start"]["aspects"])
    console = Console(width=None if sys.stdout.isatty() else 132)
    table = Table("arm", "agreement", "true score", *aspects, "confident words")
    for arm in ("start", *ARMS):
        if arm in report:
            row = report[arm]
            by = (f"{row['aspects'][aspect]['mean']:.2f}" for aspect in aspects)
            agrees = shown(row["agreement"]) if "agreement" in row else ""
            table.add_row(arm, agrees, shown(row["score"]), *by, f"{row['confident']:.2f}")
    console.print(table)
    nodes = Table("node", "true score, start", "trained", "reward model agrees with the user (held out)")
    for arm, found in report["nodes"].items():
        for path, row in found.items():
            accuracy = ""
            if "held_out" in row:
                accuracy = str(Predicted(int(row["held_out_right"]), int(row["held_out"])))
            nodes.add_row(f"{arm}: {path}", shown(row["start"]), shown(row["trained"]), accuracy)
    console.print(nodes)
    if "misled" in report:
        console.print(f"misled by {report['misled']['share']:.0%} of findings: {shown(report['misled']['agreement'])}")


if __name__ == "__main__":
    try:
        main()
    except RRMError as error:  # such as a run that another rrm began: what to do is said, and needs no traceback
        raise SystemExit(f"error: {error}") from error
