"""How fast this is, side by side with what one would use instead: TRL's trainers and transformers' generate.

    pip install -e '.[bench]'
    python scripts/bench.py --json bench.json --markdown docs/benchmarks.md
    python scripts/bench.py --quick --case policy_step_assistance

Both sides run in this process, in turn, with the same model (random weights: 135 M parameters, SmolLM2's shape),
the same adapters, lengths, threads and data; ratios are of medians. Under 15 minutes on 2 cores, --quick under 4.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is on the Hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import torch
import transformers
from benchmarks import limit, memory, policy, reward, sampling, tree
from benchmarks.common import BenchError, Options, Result, Tell
from benchmarks.report import markdown, medians, show
from rich.console import Console

CASES: dict[str, Callable[[Options, Tell], Result]] = {
    "policy_step_assistance": partial(policy.run, "policy_step_assistance"),
    "policy_step_writing": partial(policy.run, "policy_step_writing"),
    "reward_fit": reward.run,
    "sampling": sampling.run,
    "limit": limit.run,
    "tree": tree.run,
    "memory": memory.run,
    "compiled": reward.run_compiled,
}

LONG = ("policy_step_writing", "sampling", "tree", "memory")
"""Left out of --quick, unless asked for by name."""
ALONE = ("compiled",)
"""Only where asked for by name: it compiles for minutes."""


def main() -> None:
    """Run the cases, write and print the report; exit code 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer cases, shapes and trees")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side that count (default 3)")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of both sides; auto: each side's faster one, by a probe",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="torch's threads; default: torch's own choice")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: to see that it works, not how fast it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables, with command and machine")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    options = Options(args.quick, args.tiny, args.runs, args.precision)
    names = args.case or [name for name in CASES if name not in (ALONE + LONG if args.quick else ALONE)]
    report = run(names, options, Console(stderr=True))
    report["command"] = shlex.join(["python", "scripts/bench.py", *sys.argv[1:]])
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(report))
    show(report, Console())
    if any("failed" in case for case in report["cases"].values()):
        sys.exit(1)


def run(names: list[str], options: Options, console: Console) -> dict[str, Any]:
    """The report: every case's result, and the ratios, limits and medians of all of them."""
    began = time.perf_counter()
    report: dict[str, Any] = {"ratios": {}, "limit": {}, "memory": {}, "medians": {}, "cases": {}}

    def tell(what: str) -> None:
        console.print(f"[dim]{time.perf_counter() - began:6.1f} s[/dim]  {what}", highlight=False)

    for name in names:
        start = time.perf_counter()
        try:
            result = CASES[name](options, tell)
        except BenchError as error:  # said in the report, where the figure is missing
            tell(f"{name}: {error}")
            missing = "missing" if str(error).startswith("not available") else "failed"
            report["cases"][name] = {missing: str(error)}
            continue
        for key in ("ratios", "limit", "memory"):
            report[key] |= getattr(result, key)
        report["medians"] |= {what: medians(sides) for what, sides in result.raw.items()}
        report["cases"][name] = asdict(result) | {"seconds": round(time.perf_counter() - start, 1)}
    report["machine"] = machine()
    report["versions"] = versions()
    report["settings"] = asdict(options) | {"threads": torch.get_num_threads()}
    report["seconds"] = round(time.perf_counter() - began, 1)
    return report


def machine() -> dict[str, Any]:
    """The processor, as far as the system says."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []  # fmt: skip
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Package -> version, or "not installed"."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "trl", "accelerate", "recursive-reward-modeling"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
