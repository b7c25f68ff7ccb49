"""memory: peak memory of a tree of ten nodes over that of one, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

from benchmarks.common import BenchError, Options, Result, Tell

LAYERS = 10


def run(options: Options, tell: Tell) -> Result:
    """Asks `python -m rrm.measure.memory --nodes N` for N of 1 and 10, with a third of the model's layers."""
    if importlib.util.find_spec("rrm.measure.memory") is None:
        raise BenchError("not available: there is no rrm.measure.memory in this version")
    raw: dict[str, dict[str, list[float]]] = {"peak": {"1 node": [], "10 nodes": []}}
    for name, nodes in (("1 node", 1), ("10 nodes", 10)):
        command = [sys.executable, "-m", "rrm.measure.memory", "--nodes", str(nodes), "--layers", str(LAYERS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-500:]}")
        peak = float(json.loads(done.stdout.strip().splitlines()[-1])["peak_mb"])
        raw["peak"][name].append(peak)
        tell(f"memory: {name} {peak:.0f} MB")
    ratio = raw["peak"]["10 nodes"][0] / raw["peak"]["1 node"][0]
    notes = [
        f"The model has {LAYERS} of its 30 layers, so that it takes minutes; an adapter's share of a layer is the "
        "same. All of it: python -m rrm.measure.memory --nodes 10, and --nodes 1."
    ]
    return Result("MB", raw, memory={"tree10_over_tree1": ratio}, notes=notes)
