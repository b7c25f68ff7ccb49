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

from rrm.measure.arms import ARMS
from rrm.measure.experiment import shown
from rrm.measure.stats import of_numbers

MARK = "<!-- figures -->"


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Per arm agreement and score over seeds; the differences paired by seed; the gap recovered."""
    score = {arm: [r[arm]["score"]["mean"] for r in reports] for arm in (*ARMS, "start")}
    result: dict[str, Any] = {"start": {"score": of_numbers(score["start"])}}
    for arm in ARMS:
        aspects = reports[0][arm]["aspects"]
        result[arm] = {
            "score": of_numbers(score[arm]),
            "aspects": {a: of_numbers([r[arm]["aspects"][a]["mean"] for r in reports]) for a in aspects},
            "agreement": of_numbers([r[arm]["agreement"]["mean"] for r in reports]),
        }

    def minus(a: str, b: str) -> list[float]:
        return [x - y for x, y in zip(score[a], score[b], strict=True)]

    result["recursive_minus_unassisted"] = of_numbers(minus("recursive", "unassisted"))
    result["recursive_minus_one_level"] = of_numbers(minus("recursive", "one-level"))
    agrees = {arm: [r[arm]["agreement"]["mean"] for r in reports] for arm in ARMS}
    better = [x - y for x, y in zip(agrees["recursive"], agrees["one-level"], strict=True)]
    result["agreement_recursive_minus_one_level"] = of_numbers(better)
    result["gap_recovered"] = float(
        np.mean(minus("recursive", "unassisted")) / np.mean(minus("oracle", "unassisted"))
    )
    result["seconds"] = of_numbers([r["seconds"] for r in reports])
    result["peak_memory_mb"] = max(r["peak_memory_mb"] for r in reports)
    return result


def main() -> None:
    """Run the seeds that have no report yet, and write and print what all of them give."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--markdown", type=Path, help="a page whose part between <!-- figures --> marks to renew")
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
    if args.markdown:
        text = args.markdown.read_text()
        before, _, after = text.split(MARK)
        figures = "\n" + markdown(result, dict(zip(args.seeds, reports, strict=True)))
        args.markdown.write_text(MARK.join((before, figures, after)))


def markdown(result: dict[str, Any], reports: dict[int, dict[str, Any]]) -> str:
    """The tables of docs/results/demo.md."""
    aspects = result["recursive"]["aspects"]
    lines = [
        f"    {result['command']}", "",
        f"{len(reports)} seeds; {result['machine']}; {result['seconds']['mean']:.0f} s a seed, peak "
        f"{result['peak_memory_mb']} MB. Means over seeds with 95 % t-intervals.", "",
        "| arm | user agrees with the truth | true score of the agent | " + " | ".join(aspects) + " |",
        "| --- | --- | --- |" + " --- |" * len(aspects),
        f"| start | | {shown(result['start']['score'])} |" + " |" * len(aspects),
    ]  # fmt: skip
    for arm in ARMS:
        row = result[arm]
        shares = " | ".join(f"{value['mean']:.2f}" for value in row["aspects"].values())
        lines.append(f"| {arm} | {shown(row['agreement'])} | {shown(row['score'])} | {shares} |")
    lines += [
        "", f"- recursive minus unassisted, true score, paired by seed: {shown(result['recursive_minus_unassisted'])}",
        f"- recursive minus one-level, true score: {shown(result['recursive_minus_one_level'])}",
        f"- recursive minus one-level, agreement: {shown(result['agreement_recursive_minus_one_level'])}",
        "- gap recovered, (recursive - unassisted) / (oracle - unassisted), of the mean true scores: "
        f"{result['gap_recovered']:.2f}", "",
        "Each seed, with bootstrap intervals over the cases within it:", "",
        "| seed | unassisted agrees | one-level | recursive | unassisted score | one-level | recursive | oracle |",
        "|" + " --- |" * 8,
    ]  # fmt: skip
    for seed, report in reports.items():
        agrees = [shown(report[arm]["agreement"], 2) for arm in ARMS[:3]]
        scores = [shown(report[arm]["score"], 2) for arm in ARMS]
        lines.append(f"| {seed} | " + " | ".join(agrees + scores) + " |")
    return "\n".join(lines) + "\n"


def show(result: dict[str, Any]) -> None:
    """Print the arms, each over seeds, and their differences."""
    table = Table("arm", "agreement", "true score", *result["recursive"]["aspects"])
    table.add_row("start", "", shown(result["start"]["score"]))
    for arm in ARMS:
        row = result[arm]
        aspects = (f"{value['mean']:.2f}" for value in row["aspects"].values())
        table.add_row(arm, shown(row["agreement"]), shown(row["score"]), *aspects)
    console = Console()
    console.print(table)
    console.print(f"recursive - unassisted {shown(result['recursive_minus_unassisted'])}")
    console.print(f"recursive - one-level  {shown(result['recursive_minus_one_level'])}")
    console.print(f"gap recovered {result['gap_recovered']:.2f}; {shown(result['seconds'])} s a seed")


if __name__ == "__main__":
    main()
