"""Run the demo over several seeds and report each arm's results with intervals over seeds.

    python scripts/seeds.py --seeds 100 101 102 103 104 --out runs/seeds

Each seed is a demo of its own (scripts/demo.py): other briefs, other samples, other users' errors, the same
embedded model. Writes OUT/seeds.json. A seed that has a report already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from rrm.measure.arms import ARMS


def over_seeds(values: list[float]) -> dict[str, float]:
    """Mean over seeds and its 95 % t-interval."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1 or np.ptp(values) == 0:
        return {"mean": mean, "low": mean, "high": mean, "n": n}
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(values))
    return {"mean": mean, "low": float(low), "high": float(high), "n": n}


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Per arm agreement and score over seeds; the differences paired by seed; the gap recovered."""
    score = {arm: [r[arm]["score"]["mean"] for r in reports] for arm in (*ARMS, "start")}
    result: dict[str, Any] = {"start": {"score": over_seeds(score["start"])}}
    for arm in ARMS:
        aspects = reports[0][arm]["aspects"]
        result[arm] = {
            "score": over_seeds(score[arm]),
            "aspects": {a: over_seeds([r[arm]["aspects"][a]["mean"] for r in reports]) for a in aspects},
            "agreement": over_seeds([r[arm]["agreement"]["mean"] for r in reports]),
        }

    def minus(a: str, b: str) -> list[float]:
        return [x - y for x, y in zip(score[a], score[b], strict=True)]

    result["recursive_minus_unassisted"] = over_seeds(minus("recursive", "unassisted"))
    result["recursive_minus_one_level"] = over_seeds(minus("recursive", "one-level"))
    result["gap_recovered"] = float(
        np.mean(minus("recursive", "unassisted")) / np.mean(minus("oracle", "unassisted"))
    )
    result["seconds"] = over_seeds([r["seconds"] for r in reports])
    result["peak_memory_mb"] = max(r["peak_memory_mb"] for r in reports)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    args = parser.parse_args()
    reports = []
    for seed in args.seeds:
        out = args.out / str(seed)
        if not (out / "report.json").exists():
            subprocess.run(
                [sys.executable, "scripts/demo.py", "--seed", str(seed), "--out", str(out)], check=True
            )
        reports.append(json.loads((out / "report.json").read_text()))
    result = {
        "command": f"python scripts/seeds.py --seeds {' '.join(map(str, args.seeds))}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "simulated": True,
        **summary(reports),
    }
    (args.out / "seeds.json").write_text(json.dumps(result, indent=2) + "\n")
    show(result)


def show(result: dict[str, Any]) -> None:
    def cell(value: dict[str, float]) -> str:
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"

    table = Table("arm", "agreement", "true score", *result["recursive"]["aspects"])
    table.add_row("start", "", cell(result["start"]["score"]))
    for arm in ARMS:
        row = result[arm]
        aspects = (f"{value['mean']:.2f}" for value in row["aspects"].values())
        table.add_row(arm, cell(row["agreement"]), cell(row["score"]), *aspects)
    console = Console()
    console.print(table)
    console.print(f"recursive - unassisted {cell(result['recursive_minus_unassisted'])}")
    console.print(f"recursive - one-level  {cell(result['recursive_minus_one_level'])}")
    console.print(f"gap recovered {result['gap_recovered']:.2f}; {cell(result['seconds'])} s a seed")


if __name__ == "__main__":
    main()
