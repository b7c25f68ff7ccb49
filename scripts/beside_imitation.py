"""Side by side with `imitation`'s PreferenceComparisons: a pendulum swung up from comparisons of fragments.

    python scripts/beside_imitation.py --python OTHER/bin/python --seeds 100-102 --out runs/beside
    python scripts/beside_imitation.py --seeds 100-102 --out runs/beside --doc docs/results/beside_imitation.md

OTHER is an environment that has imitation 1.0.1 (it wants Gymnasium 0.29, which this project's does not have). Both
sides get the same dynamics (scripts/beside_pendulum.py), the same synthetic user (a Bernoulli draw of the logistic
of two fragments' true returns), the same fragments' length, PPO with the same settings on as many steps. What each
plays besides (to be judged, to explore, to see whether a round's improvement earned anything) is counted, and is its
own affair.
They run one after the other, each on one thread. Evaluation is not timed.

rrm        `rrm.train`, as anyone would call it, its run's folder on disk
imitation  the tutorial's settings (scripts/beside_other.py)
truth      PPO on the environment's own reward, by no comparisons: the end of the scale

Each run is a JSON file in OUT. The same command again computes nothing twice.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beside_other import PPO
from beside_pendulum import LENGTH, Pendulum, true_return

import rrm
from rrm.acting import Acting, cases, episode_of
from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Case, Outcome
from rrm.core.seeding import generator
from rrm.measure.catalog import seeds_of, with_own_words
from rrm.measure.experiment import code
from rrm.measure.stats import Interval, of_numbers
from rrm.store.files import write_atomically

SIDES = ("rrm", "imitation", "truth")
FRAGMENT = 100
COMPARISONS = (200,)
ROLLOUT = 2048
"""Steps between two updates of PPO, in 8 environments."""
OURS = {
    "rounds": 4, "cases": 6, "outcomes": 5, "steps": 12, "reward_epochs": 60, "reward_batch": 1, "lr": 4e-3,
}  # fmt: skip
"""Looked at on seeds 0 and 1. PPO makes 98,304 steps; its rate falls to 0 in each round, so that it is the other side's
on average."""
THEIRS = {"iterations": 11, "steps": 11 * 4 * ROLLOUT}
"""It trains once more than it has iterations, on as many steps as in each: 98,304 in all, too."""
QUICK = {"rounds": 1, "cases": 2, "outcomes": 3, "steps": 1, "reward_epochs": 1}


class Returns:
    """A user who sees the true returns of two fragments, and prefers one with the logistic of their difference: as
    imitation's SyntheticGatherer, temperature 1."""

    def __init__(self, seed: int) -> None:
        self.name, self.seed = f"returns(seed={seed})", seed

    def judge(self, task: rrm.Task, pair: Pair) -> Judgement:
        """By one draw."""
        a, b = true(pair.a), true(pair.b)
        chance = 1 / (1 + math.exp(min(50.0, max(-50.0, b - a))))
        drawn = float(torch.rand((), generator=generator("returns", self.seed, pair.stream), dtype=torch.float64))
        return Judgement(float(drawn < chance))

    def recall(self, task: rrm.Task, judgement: Judgement) -> None:
        """It has no memory."""


def true(outcome: Outcome) -> float:
    """The true return of a fragment."""
    return float(episode_of(outcome).hidden["reward"].sum())


def facts(case: Case, outcome: Outcome) -> list[rrm.Fact]:
    """Bounds that the return is above; for who looks at the run, not for the user."""
    return [rrm.Fact(f"above{n}", "upright", rrm.Sealed(true(outcome) > n)) for n in range(-1000, 0, 100)]


def ours(seed: int, comparisons: int, folder: Path, quick: bool, own: Mapping[str, Any]) -> dict[str, Any]:
    """Train; what it does after every round, and what it cost."""
    given = {**OURS, **own, **(QUICK if quick else {})}
    rounds = given["rounds"]
    settings = rrm.Settings(
        comparisons=-(-comparisons // rounds), accept=0, frame_cases=0, batch=8, kl=0.0, max_kl=1e9, holdout=0.0,
        **given,
    )  # fmt: skip
    task = rrm.Task(
        "swing", instruction="Which pendulum is more upright and still?", settings=settings, aspects=("upright",),
        facts=facts,
        cases=rrm.Pool(cases("beside_pendulum:Pendulum", 512, "Swing up.", steps=LENGTH, segment=FRAGMENT)),
    )  # fmt: skip
    options = {key: value for key, value in PPO.items() if key not in ("n_steps", "learning_rate")}
    began, spent, looking = time.monotonic(), time.process_time(), [0.0, 0.0]
    course: list[dict[str, float]] = []
    Pendulum.count = 0

    def watch(node: Any, event: Any) -> None:
        if event.phase == "done":
            start, used = time.monotonic(), time.process_time()
            found = true_return(lambda seen: node.agent._model.predict(seen, deterministic=True)[0], quick)
            course.append({"comparisons": len(node.comparisons), "steps": Pendulum.count, "return": found})
            looking[0] += time.monotonic() - start
            looking[1] += time.process_time() - used

    shutil.rmtree(folder, ignore_errors=True)  # begun and not finished: its time would be half of it
    maker = Acting("ppo", options, rollout=ROLLOUT // settings.batch, films=False)
    rrm.train(task, Returns(seed), maker, folder, seed, watch=[watch])
    return {
        "course": course, "steps": Pendulum.count, "seconds": time.monotonic() - began - looking[0],
        "processor seconds": time.process_time() - spent - looking[1],
    }  # fmt: skip


def theirs(python: Path, seed: int, comparisons: int, quick: bool, own: Mapping[str, Any]) -> dict[str, Any]:
    """The same of imitation, in the other environment."""
    asked = {"seed": seed, "comparisons": comparisons, "fragment": FRAGMENT, "quick": quick, **THEIRS, **own}
    asked |= {"iterations": 1, "steps": 1} if quick else {}
    script = Path(__file__).with_name("beside_other.py")
    done = subprocess.run(
        [str(python), str(script), json.dumps(asked)], capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {python} {script} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def truth(seed: int, quick: bool) -> dict[str, Any]:
    """PPO on the environment's own reward."""
    from stable_baselines3 import PPO as Algorithm
    from stable_baselines3.common.vec_env import DummyVecEnv

    began, spent = time.monotonic(), time.process_time()
    Pendulum.count = 0
    env = DummyVecEnv([Pendulum] * 8)
    env.seed(seed)
    agent = Algorithm("MlpPolicy", env, seed=seed, device="cpu", **PPO)
    agent.learn(ROLLOUT if quick else 48 * ROLLOUT)
    cost = {"seconds": time.monotonic() - began, "processor seconds": time.process_time() - spent}
    found = true_return(lambda seen: agent.predict(seen, deterministic=True)[0], quick)
    return {"course": [{"comparisons": 0, "steps": Pendulum.count, "return": found}], "steps": Pendulum.count, **cost}


def run(args: argparse.Namespace, seeds: Sequence[int]) -> None:
    """What is not there yet."""
    own = json.loads(args.settings)
    for seed in seeds:
        for comparisons in args.comparisons:
            for side in args.sides:
                path = file_of(args.out, side, comparisons, seed)
                if path.exists():
                    continue
                if side == "rrm":
                    found = ours(seed, comparisons, args.out / "runs" / path.stem, args.quick, own)
                elif side == "imitation":
                    found = theirs(args.python, seed, comparisons, args.quick, own)
                else:
                    found = truth(seed, args.quick)
                found |= {"quick": args.quick, "code": code()}
                write_atomically(path, json.dumps(found, indent=1).encode())
                last = json.dumps(found["course"][-1])
                print(f"{path.stem}: {last}, {found['processor seconds']:.0f} processor s", flush=True)


def file_of(out: Path, side: str, comparisons: int, seed: int) -> Path:
    """Where a run's result is; by `truth` nothing is compared."""
    return out / (f"truth-{seed}.json" if side == "truth" else f"{side}-{comparisons}-{seed}.json")


# --- the page ----------------------------------------------------------------------------------------


def page(out: Path, seeds: Sequence[int], comparisons: Sequence[int], command: str, where: Path | None) -> str:
    """Tables over seeds; what stands by hand on the page is kept. Sides are compared on the seeds that both have."""
    found: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = {}
    for side, n in [(side, n) for n in comparisons for side in SIDES[:2]] + [("truth", 0)]:
        rows = {seed: json.loads(path.read_text()) for seed in seeds if (path := file_of(out, side, n, seed)).exists()}
        if rows:
            found[side, n] = rows
    if not found:
        raise SystemExit(f"error: nothing of these seeds in {out}; run without --doc first")
    head = "Beside `imitation`'s PreferenceComparisons: a pendulum swung up from comparisons of fragments of 100 steps."
    lines = ["# beside imitation", "", head, "", f"    {command}", ""]
    if (few := min(len(rows) for rows in found.values())) < 3:
        lines += [f"**Seeds: {few}. So few show nothing.**", ""]
    if any(row["quick"] for rows in found.values() for row in rows.values()):
        lines += ["**A smoke test: nothing was learned.**", ""]
    lines += ["True return of 40 episodes of 200 steps that nobody trained on; 0 is best. Intervals: 95 %, over seeds."]
    lines += ["Seconds: of one thread, evaluation left out.", ""]
    lines += ["| side | seeds | comparisons | return | of each seed | steps | seconds | processor seconds |"]
    lines += [f"|{' --- |' * 8}"]
    for (side, _), rows in found.items():
        last = [row["course"][-1] for row in rows.values()]
        returns = [one["return"] for one in last]
        cells = [side, str(len(rows)), mean(last, "comparisons"), said(of_numbers(returns))]
        cells += [", ".join(f"{value:.0f}" for value in returns)]
        cells += [mean([*rows.values()], key) for key in ("steps", "seconds", "processor seconds")]
        lines.append(f"| {' | '.join(cells)} |")
    for n in comparisons:
        lines += compared(found.get(("rrm", n), {}), found.get(("imitation", n), {}), n)
    codes = ", ".join(sorted({row["code"] for rows in found.values() for row in rows.values()}))
    text = "\n".join([*lines, "", f"Of: {codes}."]) + "\n"
    return text if where is None else with_own_words(text, where)


def compared(one: Mapping[int, Mapping[str, Any]], other: Mapping[int, Mapping[str, Any]], n: int) -> list[str]:
    """Differences and ratios on the seeds that both sides have, and the return as comparisons come in."""
    both = sorted(one.keys() & other.keys())
    lines = []
    if both:
        apart = [one[seed]["course"][-1]["return"] - other[seed]["course"][-1]["return"] for seed in both]
        ratios = {
            key: [other[seed][key] / one[seed][key] for seed in both]
            for key in ("seconds", "processor seconds")
        }
        lines += ["", f"With {n} comparisons, of {len(both)} of the seeds: the return of rrm less that of imitation is"]
        lines += [f"{said(of_numbers(apart), 0)}. Imitation's time over that of rrm:"]
        lines += ["; ".join(f"{key} {said(of_numbers(values), 2)}" for key, values in ratios.items()) + "."]
    lines += ["", "| side | comparisons | steps | return | of each seed |", f"|{' --- |' * 5}"]
    for side, rows in (("rrm", one), ("imitation", other)):
        for at in zip(*(row["course"] for row in rows.values()), strict=True):
            cells = [side, *(mean(at, key) for key in ("comparisons", "steps", "return"))]
            lines.append(f"| {' | '.join([*cells, ', '.join(format(each['return'], '.0f') for each in at)])} |")
    return lines


def mean(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Of what all rows have."""
    return f"{np.mean([row[key] for row in rows]):.0f}"


def said(value: Interval, digits: int = 0) -> str:
    """A mean with its interval, which one number has not."""
    if value["n"] < 2:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="the interpreter of an environment that has imitation 1.0.1")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--comparisons", nargs="+", type=int, default=COMPARISONS, help="how many; each another run")
    parser.add_argument("--seeds", default="3", help="how many, from 100 on; or which: 0-4, or 100, (of one)")
    parser.add_argument("--settings", default="{}", help="JSON: other settings than those chosen, of the side run")
    parser.add_argument("--out", type=Path, default=Path("runs/beside"))
    parser.add_argument("--quick", action="store_true", help="a smoke test: everything runs, nothing is learned")
    parser.add_argument("--doc", type=Path, help="write the page there and compute nothing; what is by hand is kept")
    args = parser.parse_args(arguments)
    seeds = seeds_of(args.seeds)
    torch.set_num_threads(1)
    if args.doc is None:
        if "imitation" in args.sides and args.python is None:
            parser.error("--python: which interpreter has imitation? Or leave it out: --sides rrm truth")
        run(args, seeds)
    given = sys.argv[1:] if arguments is None else list(arguments)
    text = page(args.out, seeds, args.comparisons, f"python scripts/beside_imitation.py {shlex.join(given)}", args.doc)
    if args.doc is None:
        print(text)
    else:
        write_atomically(args.doc, text.encode())


if __name__ == "__main__":
    main()
