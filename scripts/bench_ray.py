"""Ten siblings on Ray against the same tree serially with one thread: wall time of whole runs, in turn, in one process.

    pip install -e '.[ray]'
    OMP_NUM_THREADS=1 python scripts/bench_ray.py
    OMP_NUM_THREADS=1 python scripts/bench_ray.py --siblings 3 --steps 4 --pairs 1   # a look

The tree is a paper judged with the help of N critics of the writing, on the embedded model. A run's time is all of
`rrm.train`: Ray's start and end, the workers' imports, and the root's own training, which no sibling can share: of
small trees they are most of it. No sibling is stopped by its KL, so that all have about the same work: where they do
not, one core waits for the other at the end. After each pair the two runs' weights are compared, bit for bit. The goal
on two cores: 1.6.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import rrm
from rrm.core.errors import Notice
from rrm.core.judgements import Event
from rrm.models.precision import cores
from rrm_assistants import writing
from rrm_tasks.paper import paper


@dataclass(frozen=True)
class Args:
    """What is trained, how often."""

    siblings: int = 10
    """Assistants of the root."""
    rounds: int = 2
    """Of every sibling; the root has one."""
    steps: int = 192
    """Of a sibling's policy, a round."""
    cpus: int = 1
    """Threads of a job, and of the serial run."""
    pairs: int = 3
    """Runs of each kind, in turn."""


@dataclass(frozen=True)
class Time:
    """Seconds of a run: all of it, and until the root began its own round."""

    whole: float
    siblings: float


def tree(args: Args) -> rrm.Task:
    """A paper and its critics."""
    few = rrm.Settings(
        rounds=1, cases=8, outcomes=3, comparisons=8, steps=2, batch=4, group=4, reward_epochs=1, accept=0, lr=3e-4
    )
    own = {"rounds": args.rounds, "steps": args.steps, "accept": 8, "max_kl": 1e9}
    many = few.model_copy(update=own | {"batch": 8, "group": 8, "max_tokens": 24})
    critics = [replace(writing(), name=f"writing{n}", settings=many) for n in range(args.siblings)]
    return replace(paper(settings=few.model_copy(update={"max_tokens": 96})), assistants=tuple(critics))


def run(args: Args, out: Path, on: str | None) -> Time:
    """Train it once."""
    began, first = time.monotonic(), []

    def watch(node: object, event: Event) -> None:
        if event.task == "paper" and event.phase == "sample":
            first.append(time.monotonic() - began)

    rrm.train(tree(args), rrm.BoundedUser(), "embedded", out, watch=[watch], on=on)
    return Time(time.monotonic() - began, first[0])


def weights(out: Path) -> dict[str, bytes]:
    """Path -> weights."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def main() -> None:
    """Run the pairs and print a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Args()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = vars(parser.parse_args())
    file = given.pop("json")
    args = Args(**given)
    warnings.simplefilter("ignore", Notice)
    torch.set_num_threads(args.cpus)
    found: list[tuple[Time, Time]] = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(args.pairs):
            serial = run(args, Path(folder) / f"serial{pair}", None)
            ray = run(args, Path(folder) / f"ray{pair}", f"ray:cpus={args.cpus}")
            same = weights(Path(folder) / f"serial{pair}") == weights(Path(folder) / f"ray{pair}")
            found.append((serial, ray))
            ratio = f"{serial.whole / ray.whole:.2f} times as fast"
            times = f"{serial.whole:.1f} s serially, {ray.whole:.1f} s on Ray, {ratio}"
            apart = f"siblings alone {serial.siblings:.1f} and {ray.siblings:.1f} s"
            print(f"pair {pair + 1}: {times}; {apart}; same weights: {same}", flush=True)
            if not same:
                raise SystemExit("the two runs learned other weights")
    whole = statistics.median(a.whole / b.whole for a, b in found)
    alone = statistics.median(a.siblings / b.siblings for a, b in found)
    where = f"{args.siblings} siblings on {cores()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{where}: whole run {whole:.2f} times as fast, siblings alone {alone:.2f}")
    if file is not None:
        figures = {"args": asdict(args), "cores": cores(), "whole": whole, "siblings": alone}
        pairs = [{"serial": asdict(a), "ray": asdict(b)} for a, b in found]
        file.write_text(json.dumps(figures | {"pairs": pairs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
