"""Agents that act. The boat race, by who judges: does it go around, or circle for points? And CartPole.

    python scripts/acting.py --seeds 100-104 --out runs/acting
    python scripts/acting.py --seeds 100-104 --out runs/acting --doc docs/results/acting.md

Arms, each trained from its own comparisons alone, as `rrm train boat_race` trains:

proxy      PPO on the environment's own points, no comparisons: as many steps as the others make
alone      a user who sees the score, and watches as much as its attention allows
assisted   the same user with the tools laps, points and safe; assisted_72, assisted_144: with fewer comparisons
truth      labels by all facts: the end of the scale
frozen     assisted, all comparisons in the first round, and the reward model never fitted again (Ibarz et al. 2018)
cart_pole  `rrm train cart_pole`: CartPole from comparisons of how long the pole stood
match      `rrm train match`, a game in which moves that win look bad; match_alone: without replies; whole: games to
           their end (scripts/acting_match.py)
lander     `rrm train lunar_lander`; _proxy, _frozen (scripts/acting_lander.py)
vase, cliff  `rrm train vase` and `cliff`: what breaks, who falls; _alone, _proxy (scripts/acting_walks.py)
watching   nothing is trained: who sees what of mixed races, and whose help mends it (scripts/acting_watching.py)

Each arm of a seed is a JSON file in OUT, with what the policy does after every round: learned reward, points and laps
of the same 40 races, or how long the pole stands in as many tries. The same command again computes nothing twice.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from acting_lander import LANDER, lander_table, learned_flight
from acting_match import MATCH, learned_match, match_table
from acting_walks import WALKS, learned_walk, walks_table
from acting_watching import table, watched

import rrm
from rrm.acting import Acting, Place, episode_of
from rrm.acting.policy import ActingPolicy
from rrm.core.records import Case, Group
from rrm.measure.catalog import seeds_of, with_own_words
from rrm.measure.experiment import code
from rrm.measure.stats import Interval, of_numbers
from rrm.store.files import write_atomically
from rrm.worlds.grids.boat import RING
from rrm_tasks.boat_race import SETTINGS, STEPS, Spectator, boat_race
from rrm_tasks.cart_pole import SETTINGS as CART_POLE
from rrm_tasks.cart_pole import cart_pole

FEWER = {"assisted_72": 4, "assisted_144": 2}
"""Arm -> of how many comparisons of `assisted` it has one."""
BOAT = ("proxy", "alone", "assisted", *FEWER, "truth", "frozen")
ARMS = (*BOAT, "cart_pole", "watching", *MATCH, *WALKS, *LANDER)
RACES = 40
"""That a policy is looked at in, after each round."""
BEST = STEPS / len(RING)
"""Laps of the best policy."""


def looked(
    policy: ActingPolicy, cases: Sequence[Case], score: Callable[[list[Group]], float] | None
) -> dict[str, float]:
    """What a policy does: laps, points and bumps of a race, and what the reward model makes of them."""
    groups = policy.sample(cases, 1, "look")
    known = {} if score is None else {"learned reward": score(groups)}
    if "CartPole" in cases[0].data["env"]:
        return {"steps": float(np.mean([len(episode_of(group.outcomes[0])) for group in groups])), **known}
    hidden = [episode_of(group.outcomes[0]).hidden for group in groups]
    return {
        "laps": float(np.mean([one["progress"][-1] for one in hidden])) / len(RING),
        "points": float(np.mean([one["reward"].sum() for one in hidden])),
        "bumps": float(np.mean([one["bumps"][-1] for one in hidden])),
        **known,
    }


def held_out(n: int = RACES, of: Callable[..., rrm.Task] = boat_race) -> tuple[Case, ...]:
    """Cases with starts of their own."""
    task = of(n=64 + n)
    assert isinstance(task.cases, rrm.Pool)
    return task.cases.cases[64:]


def learned(arm: str, seed: int, out: Path, quick: bool) -> dict[str, Any]:
    """Train an arm; what it does after every round, and what it cost."""
    pole = arm == "cart_pole"
    settings = CART_POLE if pole else SETTINGS
    if arm in FEWER:
        settings = settings.model_copy(
            update={key: getattr(settings, key) // FEWER[arm] for key in ("cases", "comparisons")}
        )
    if arm == "frozen":
        whole = {key: getattr(settings, key) * settings.rounds for key in ("cases", "comparisons", "steps")}
        settings = settings.model_copy(update={"rounds": 1} | whole)
    if quick:
        settings = settings.model_copy(update={"rounds": 1, "cases": 4, "comparisons": 8, "steps": 1, "batch": 2})
    user: rrm.BoundedUser = rrm.BoundedUser(seed=seed) if pole else Spectator(seed=seed)
    if arm == "truth":
        user = rrm.BoundedUser(attention=10_000, error=0.0, biases={}, seed=seed)
    tools = () if arm in ("alone", "truth") else None
    task = cart_pole(settings) if pole else boat_race(tools, settings)
    course: list[dict[str, float]] = []
    races = held_out(4 if quick else RACES, cart_pole if pole else boat_race)

    def watch(node: Any, event: Any) -> None:
        among = event.phase == "improve" and arm == "frozen" and event.step % 24 == 0 and event.step > 0
        if event.phase == "done" or among:

            def score(groups: list[Group]) -> float:
                return float(np.mean([float(one.mean[0]) for one in node.reward.score(groups)]))

            course.append({"comparisons": len(node.comparisons), **looked(node.agent, races, score)})

    folder = out / "trees" / f"{arm}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)  # rounds of an attempt before would not be in the course
    rrm.train(task, user, Acting("ppo"), folder, seed, watch=[watch])
    return {"course": course}


def proxied(seed: int, quick: bool) -> dict[str, Any]:
    """PPO on the points."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rrm.acting.policy import seeded

    task, settings = boat_race(), SETTINGS
    assert isinstance(task.cases, rrm.Pool)
    places = [Place.of(case) for case in task.cases.cases[: settings.batch]]
    steps = settings.rounds * settings.steps * settings.batch * 2 * STEPS
    policy = Acting("ppo").policy(rrm.core.validation.plant(task), seed)
    assert isinstance(policy, ActingPolicy)
    with seeded("proxy", seed):
        env = DummyVecEnv([lambda place=place: place.make() for place in places])
        model = PPO("MlpPolicy", env, n_steps=2 * STEPS, learning_rate=settings.lr, device="cpu")
        model.learn(2 * STEPS * settings.batch if quick else steps)
    policy._model = model
    return {"course": [{"comparisons": 0, **looked(policy, held_out(4 if quick else RACES), None)}]}


def run(arms: Sequence[str], seeds: Sequence[int], out: Path, quick: bool) -> None:
    """What is not there yet."""
    for seed in seeds:
        for arm in arms:
            path = out / f"{arm}-{seed}.json"
            if path.exists():
                continue
            began, spent = time.monotonic(), time.process_time()
            if arm == "watching":
                found: dict[str, Any] = {"right": watched(seed, quick)}
            elif arm in WALKS:
                found = {"walked": learned_walk(arm, seed, out / "trees" / f"{arm}-{seed}", quick)}
            elif arm in LANDER:
                found = {"flown": learned_flight(arm, seed, out / "trees" / f"{arm}-{seed}", quick)}
            elif arm in MATCH:
                found = {"played": learned_match(arm, seed, out / "trees" / f"{arm}-{seed}", quick)}
            else:
                found = proxied(seed, quick) if arm == "proxy" else learned(arm, seed, out, quick)
            found["seconds"] = round(time.monotonic() - began, 1)
            found["processor seconds"] = round(time.process_time() - spent, 1)
            write_atomically(path, json.dumps(found | {"quick": quick, "code": code()}, indent=1).encode())
            brief = next((found[key] for key in ("course", "flown", "played", "walked") if key in found), "done")
            last = json.dumps(brief[-1] if isinstance(brief, list) else brief)
            print(f"seed {seed}, {arm}: {last}, {found['seconds']:.0f} s", flush=True)


# --- the page ----------------------------------------------------------------------------------------


def page(out: Path, seeds: Sequence[int], command: str, where: Path | None) -> str:
    """Tables over seeds; what stands by hand on the page is kept."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for arm in ARMS:
        rows = [json.loads(path.read_text()) for s in seeds if (path := out / f"{arm}-{s}.json").exists()]
        if rows:
            found[arm] = rows
    if not found:
        raise SystemExit(f"error: nothing of these seeds in {out}; run without --doc first")
    head = "Agents that act, by who judges: in the boat race laps are wanted, and points are to be had by circling."
    lines = ["# acting", "", head, "", f"    {command}", ""]
    if any(row["quick"] for rows in found.values() for row in rows):
        lines += ["**A smoke test: nothing was learned.**", ""]
    lines += [f"The best policy makes {BEST:g} laps. Intervals: 95 %, over seeds."]
    boats = {arm: rows for arm, rows in found.items() if arm in BOAT}
    if boats:
        heads = ("arm", "seeds", "comparisons", "laps", "share of the best", "points", "bumps", "seconds")
        lines += ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for arm, rows in boats.items():
        last = [row["course"][-1] for row in rows]
        shares = [max(0.0, one["laps"]) / BEST for one in last]
        cells = [arm, str(len(rows)), f"{np.mean([one['comparisons'] for one in last]):.0f}"]
        cells += [said(of_numbers([one["laps"] for one in last])), said(of_numbers(shares))]
        cells += [f"{np.mean([one[key] for one in last]):.1f}" for key in ("points", "bumps")]
        lines.append(f"| {' | '.join([*cells, format(np.mean([row['seconds'] for row in rows]), '.0f')])} |")
    if boats:
        lines += ["", "## As they learn", ""]
        lines += ["Means over seeds of the same races, after each round (`frozen`: after as many steps).", ""]
        lines += ["| arm | round | comparisons | learned reward | points | laps |", f"|{' --- |' * 6}"]
    for arm, rows in boats.items():
        for i in range(min(len(row["course"]) for row in rows)) if arm != "proxy" else ():
            at = [row["course"][i] for row in rows]
            mean = {key: float(np.mean([one[key] for one in at])) for key in at[0]}
            values = [f"{mean['comparisons']:.0f}", f"{mean['learned reward']:.2f}", f"{mean['points']:.1f}"]
            lines.append(f"| {' | '.join([arm, str(i + 1), *values, said(of_numbers([one['laps'] for one in at]))])} |")
    if "cart_pole" in found:
        lines += poles(found["cart_pole"])
    if flights := {arm: rows for arm, rows in found.items() if arm in LANDER}:
        lines += lander_table(flights)
    if matches := {arm: rows for arm, rows in found.items() if arm in MATCH}:
        lines += match_table(matches)
    if walks := {arm: rows for arm, rows in found.items() if arm in WALKS}:
        lines += walks_table(walks)
    if "watching" in found:
        lines += table([row["right"] for row in found["watching"]])
    minutes = sum(row["processor seconds"] for rows in found.values() for row in rows) / 60
    codes = ", ".join(sorted({row["code"] for rows in found.values() for row in rows}))
    text = "\n".join([*lines, "", f"Processor minutes in all: {minutes:.0f}; {codes}."]) + "\n"
    return text if where is None else with_own_words(text, where)


def poles(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """CartPole: how long the pole stood, of 500 steps, after each round, by seed."""
    lines = ["", "## CartPole", "", "Steps that the pole stands, of 500; mean of 40 tries of seeds of their own.", ""]
    lines += ["| round | comparisons | steps | of each seed |", "| --- | --- | --- | --- |"]
    for i in range(min(len(row["course"]) for row in rows)):
        steps = [row["course"][i]["steps"] for row in rows]
        n = np.mean([row["course"][i]["comparisons"] for row in rows])
        each = ", ".join(f"{value:.0f}" for value in steps)
        lines.append(f"| {i + 1} | {n:.0f} | {said(of_numbers(steps))} | {each} |")
    return lines


def said(value: Interval) -> str:
    """A mean with its interval."""
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", default="5", help="how many, from 100 on; or which: 0-4, or 100, (of one)")
    parser.add_argument("--out", type=Path, default=Path("runs/acting"))
    parser.add_argument("--quick", action="store_true", help="a smoke test: everything runs, nothing is learned")
    parser.add_argument("--doc", type=Path, help="write the page there and compute nothing; what is by hand is kept")
    args = parser.parse_args(arguments)
    seeds = seeds_of(args.seeds)
    if args.doc is None:
        run(args.arms, seeds, args.out, args.quick)
    given = sys.argv[1:] if arguments is None else list(arguments)
    text = page(args.out, seeds, f"python scripts/acting.py {shlex.join(given)}", args.doc)
    if args.doc is None:
        print(text)
    else:
        write_atomically(args.doc, text.encode())


if __name__ == "__main__":
    main()
