"""How fast this is on one GPU, side by side with TRL's trainer and transformers' generate.

    pip install -e '.[bench]'
    python scripts/bench_gpu.py --json gpu.json
    python scripts/bench_gpu.py --part sampling --model qwen-0.5b --cases 16 --runs 1

Both sides run in this process, in turn, with the same model (random weights, the shape of a published one, in
bfloat16), the same adapters, lengths and rewards. Outcomes all have full length. --tiny runs on a processor, too, to
see that it works. Figures of a card are worth as much as the card was free: run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is on the Hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import transformers
from benchmarks import gpu


def main() -> None:
    """Run the parts, print and write what they gave; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part", action="append", choices=list(gpu.PARTS),
        help="only this one; may be repeated (default: all but compiled and profile)",
    )  # fmt: skip
    parser.add_argument("--model", choices=list(gpu.SHAPES), default="qwen-0.5b", help="the shape (default qwen-0.5b)")
    parser.add_argument("--cases", type=int, default=64, help="cases of a step (default 64)")
    parser.add_argument("--outcomes", type=int, default=8, help="outcomes of a case (default 8)")
    parser.add_argument("--case", type=int, default=64, help="tokens of a case (default 64)")
    parser.add_argument("--outcome", type=int, default=256, help="tokens of an outcome (default 256)")
    parser.add_argument("--runs", type=int, default=3, help="runs that count, after one that does not (default 3)")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[16, 32, 64],
        help="sizes of TRL's micro-batches; the fastest counts (default 16 32 64)",
    )  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="a tiny model and step, on whatever device there is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    shape = gpu.Step(args.cases, args.outcomes, args.case, args.outcome)
    if args.tiny:
        shape = gpu.Step(3, 2, 8, 16)
    bench = gpu.Bench("tiny" if args.tiny else args.model, shape, args.runs, args.rows)
    failed = []
    for name in args.part or gpu.DEFAULT:
        began = time.perf_counter()
        try:
            gpu.PARTS[name](bench)
        except (RuntimeError, ValueError, TypeError, AttributeError, OSError) as error:  # the others still count
            traceback.print_exc()
            bench.found[name] = {"failed": f"{type(error).__name__}: {error}"}
            failed.append(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s in all", flush=True)
        if args.json:
            args.json.write_text(json.dumps(bench.found, indent=2) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
