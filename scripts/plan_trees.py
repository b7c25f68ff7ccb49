"""What trees of many nodes would cost on large models: planned, not run.

    python scripts/plan_trees.py
    python scripts/plan_trees.py --nodes 100 --model qwen3-8b --sees outcome

Every node has the default settings, outcomes of 256 tokens and cases of 512; each asks its assistants once about an
outcome. Trees of one size differ in their depth only. Models are loaded in bfloat16, on an H100 if it holds their
weights, else on a B200.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rrm import Case, Outcome, Pool, Settings, Task
from rrm.core.validation import plant
from rrm.loop.costs import Plan, plan
from rrm.loop.planning import Extent
from rrm.models.device_spec import DeviceSpec
from rrm.models.model_shape import ModelShape

EXTENT = Extent(512, 512, 256, source="said")


def nothing(case: Case, outcome: Outcome) -> tuple[()]:
    """Facts, cases and findings of a tree that is never run."""
    return ()


def tree(sizes: Sequence[int], settings: Settings) -> Task:
    """A tree with so many nodes on each level, dealt out evenly."""
    level: list[Task] = []
    for depth in range(len(sizes) - 1, -1, -1):
        cases = Pool((Case(""),)) if depth == 0 else None
        level = [
            Task(f"n{i}", "", nothing, cases, nothing, nothing, assistants=level[i :: sizes[depth]], settings=settings)
            for i in range(sizes[depth])
        ]
    return plant(level[0])


def shapes(nodes: int) -> dict[str, list[int]]:
    """Name -> nodes on each level: flat, two levels, binary, a chain."""
    side = round(nodes**0.5) - 1
    binary, left = [], nodes
    while left:
        binary.append(min(2 ** len(binary), left))
        left -= binary[-1]
    return {
        "flat": [1, nodes - 1], "two levels": [1, side, nodes - 1 - side], "binary": binary,
        "chain": [1] * min(nodes, 50),  # a tree is at most 50 deep
    }  # fmt: skip


def planned(sizes: Sequence[int], settings: Settings, model: ModelShape, device: DeviceSpec) -> Plan:
    """One tree's plan, with cases of the same length everywhere."""
    task = tree(sizes, settings)
    return plan(task, model, device, {node.path: EXTENT for node in task.walk()}, 8, "bfloat16")


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100], help="sizes of trees (default 10 100)")
    parser.add_argument("--model", nargs="+", default=["qwen3-8b", "llama-70b"], help="(default qwen3-8b llama-70b)")
    parser.add_argument("--sees", choices=["assistance", "outcome"], default="assistance", help="reward_sees")
    args = parser.parse_args()
    settings = Settings(max_tokens=256, reward_sees=args.sees)
    models = {name: ModelShape.of(name) for name in args.model}
    print("| nodes | levels | model | judgements | sampled | trained | GPU hours | with 8, at best | GB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for nodes in args.nodes:
        for kind, sizes in shapes(nodes).items():
            for name, shape in models.items():
                device = DeviceSpec.of("h100" if shape.parameters * 2 < 78e9 else "b200")
                done = planned(sizes, settings, shape, device)
                sampled, trained = (sum(getattr(n, key) for n in done.nodes) / 1e6 for key in ("sampled", "trained"))
                large = max(done.peak, done.loading) / 1e9
                print(
                    f"| {sum(sizes)} | {kind}, {len(sizes)} | {name}, {device.name} | {done.judgements:,} | "
                    f"{sampled:,.0f} M | {trained:,.0f} M | {done.seconds / 3600:,.0f} | {done.at_best / 3600:,.0f} | "
                    f"{large:,.0f}{' (does not fit)' if done.problems else ''} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
