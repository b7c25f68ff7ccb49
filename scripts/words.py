"""Recursion in words, with truth: critics that are language models help to judge solutions of word problems.

    python scripts/words.py --model qwen-0.5b --data FOLDER --seeds 100 --out runs/words
    python scripts/words.py --out runs/words --seeds 100-104 --doc docs/results/words.md

Real text: GSM8K's test questions with four models' solutions (Cobbe et al. 2021). `steps` says in words which line is
the first that is wrong; `step`, below it, whether one line follows. Both are trained, from one language model, on one
half of the questions; pairs of a right and a wrong solution of the other half are then judged. Parts:

judging     a simulated user with little attention, alone and with all kinds of assistance
weak-judge  a smaller language model in the user's place (--judge), in both orders
misleading  critics that mislead, one of them trained to convince; are they found out by spot checks?
acting      the model's own solutions: the best of four by reward models fitted to the user's judgements

Each part of a seed is a JSON file in OUT; the same command again computes nothing twice, and goes on in the middle of
training. A part pays for the critics that it is the first to need.

An estimate for one seed and 0.5 B parameters, in processor minutes (examining a solution takes 4 to 8 processor
seconds, a node's training 5 minutes): judging 75, of which training 35; weak-judge 30, of which 25 for the critic that
is trained to convince; acting 20; misleading 1. With two threads and nothing else running that is about 65 minutes.
Five seeds take some 10 processor hours.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging
from words_page import page
from words_stage import CHUNK, Drawn, Scripted, Solutions, WordStage, always, claims, right, tree
from words_stage import NAME as ROOT_NAME

from rrm import BoundedUser, Group, ModelUser, Outcome, Pair, Task
from rrm.core.protocols import Agent
from rrm.core.task import Assistant, assist
from rrm.core.validation import check, plant
from rrm.measure.catalog import seeds_of
from rrm.measure.experiment import code, packed, without_nan
from rrm.measure.experiments.misleading import SPOT_CHECKS, misled, trust, turned
from rrm.measure.oversight import another, arms, assistants_in, judged
from rrm.measure.recorded import Recorded, RecordedMaker
from rrm.measure.stage import Material
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision
from rrm.store.files import write_atomically
from rrm_assistants.solution import answer
from rrm_tasks.word_problems import word_problems

PARTS = ("judging", "weak-judge", "misleading", "acting")
KINDS = ("wrong", "sandbagging", "colluding")
FOUND = "trained to convince"
PRIOR = 0.5
"""What the user believes of what it has not checked: half of the solutions are wrong."""
OWN = 4
"""Solutions that the agent writes of each question."""


# --- the parts: what one seed gives, JSON-able -------------------------------------------------------


def judging(stage: WordStage, say: Callable[[str], None]) -> dict[str, Any]:
    """The bounded user's verdicts under every protocol, and what critics claimed against what is so."""
    say("training the critics: step, steps with step, steps alone, one flat critic")
    shown: dict[str, Material] = {"depth 2": stage.assisted}
    shown["depth 1"] = stage.shown("depth 1", stage.helpers_at(1))
    shown["flat critic"] = stage.shown("flat critic", stage.critic)
    found = arms(stage)
    shown |= told(stage)
    tools = tuple(a for a in plant(word_problems()).assistants if isinstance(a, Assistant))
    shown["tools"] = stage.alone.assisted(tools)
    shown["tools and critics"] = both(shown["tools"], shown["depth 2"])
    for name in ("untrained", "perfect", "contrary", "tools", "tools and critics"):
        found[name] = judged(replace(stage.task, assistants=shown[name].helpers), stage.user(), shown[name])
    sweep = {
        str(attention): {
            name: packed(judged(stage.task, stage.bounded(attention=attention), some))
            for name, some in {"alone": stage.alone, **{n: shown[n] for n in ("depth 1", "depth 2", "perfect")}}.items()
        }
        for attention in (2, 4, 8, 12)
    }  # fmt: skip
    half = stage.known.training
    return {
        "arms": {name: packed(rows) for name, rows in found.items()},
        "attention": sweep,
        "claims": {name: claims(some.held) for name, some in shown.items() if not name.startswith("tools")},
        "position": always(stage.known, half),
        "examples": examples(shown["depth 2"]),
    }


def told(stage: WordStage) -> dict[str, Material]:
    """The pairs with untrained critics, and with those that are told the truth."""

    def untrained(task: Task) -> Agent:
        start = stage.start(task)
        return Drawn(start, stage.seed) if task.name == "steps" else start

    agents: dict[str, Callable[[Task], Agent]] = {
        "untrained": untrained, "perfect": Scripted, "contrary": partial(Scripted, contrary=True)
    }  # fmt: skip
    return {name: stage.shown(name, stage.told(make)) for name, make in agents.items()}


def both(one: Material, other: Material) -> Material:
    """The pairs with what either's assistants say."""

    def joined(some: Any, more: Any) -> Any:
        groups = [
            replace(g, assistance=tuple((*g.seen(i), *h.seen(i)) for i in range(len(g.outcomes))))
            for g, h in zip(some.groups, more.groups, strict=True)
        ]
        return replace(some, groups=groups)

    helpers = (*one.helpers, *other.helpers)
    return Material(joined(one.held, other.held), joined(one.practice, other.practice), helpers=helpers)


def examples(some: Material, n: int = 4) -> list[dict[str, str]]:
    """The first pairs in the seed's order, which nobody picked: a solution, and what was said of it."""
    return [
        {
            "question": group.case.data["question"],
            "solution": group.outcomes[0].text,
            "right": str(right(group.case, group.outcomes[0])),
            "said": "; ".join(
                f"{a.name}: {said.outcome.text}" for top in group.seen(0) for a in top.tree() for said in a.answers
            ),
        }
        for group in some.held.groups[:n]
    ]


def weak_judge(stage: WordStage, judge: ModelUser, say: Callable[[str], None]) -> dict[str, Any]:
    """The weaker model's chances in both orders: alone, and shown what critics said."""
    shown = {"alone": stage.alone, "depth 1": stage.shown("depth 1", stage.helpers_at(1)), "depth 2": stage.assisted}
    shown |= told(stage) | {FOUND: stage.shown(FOUND, turned(stage, "trained to collude"))}
    found: dict[str, Any] = {"judge": judge.name, "arms": {}}
    for name, some in shown.items():
        say(f"the judge reads: {name}")
        rows = []
        for (g, i, j), truth in zip(some.held.pairs, some.held.truth, strict=True):
            pair = Pair.of(stage.task.path, some.held.groups[g], i, j)
            first, second, mass = judge.chances(stage.task, pair)
            rows.append([some.held.case[g], truth, first, second, mass, points(pair)])
        found["arms"][name] = rows
    return found


def points(pair: Pair) -> int:
    """Which side the assistance speaks for: 1 if it calls wrong only what is in the second, -1 the first, else 0."""
    a, b = (
        any(not f.holds for top in side for said in top.answers for f in said.findings)
        for side in (pair.assistance_a, pair.assistance_b)
    )
    return int(b) - int(a)


def misleading(stage: WordStage, say: Callable[[str], None]) -> dict[str, Any]:
    """The bounded user with critics that mislead: agreement, and the trust they earned, by rate of spot checks."""
    honest = stage.assisted
    say("training critics to convince")
    convincing = stage.shown(FOUND, turned(stage, "trained to collude"))
    names = assistants_in(honest)
    shown = {"honest": honest, FOUND: convincing}
    shown |= {kind: misled(honest, set(names), kind, stage.seed) for kind in KINDS}
    shown |= {name: some for name, some in told(stage).items() if name != "untrained"}
    found: dict[str, Any] = {"alone": packed(judged(stage.task, stage.user(), stage.alone)), "misled": {}, "trust": {}}
    for name, some in shown.items():
        for rate in SPOT_CHECKS:
            user = stage.bounded(spot_checks=rate)
            verdicts = judged(stage.task, user, some)
            found["misled"].setdefault(name, {})[str(rate)] = packed(verdicts)
            found["trust"].setdefault(name, {})[str(rate)] = trust(names, verdicts, user)
    found["claims"] = {FOUND: claims(convincing.held), "honest": claims(honest.held)}
    return found


def acting(stage: WordStage, backbone: Backbone, say: Callable[[str], None]) -> dict[str, Any]:
    """Of the model's own solutions of held-out questions: how many are right, and which of four a reward model that was
    fitted to the user's judgements would give. Nothing is trained on them; the policy stays as it is."""
    alone = stage.assistants("alone", replace(stage.task, assistants=()))
    cases = stage.asked[: 4 if stage.quick else stage.acting]
    agent = TextAgent(backbone, backbone.start, word_problems().settings.max_tokens)
    say(f"solving {len(cases)} questions, {OWN} times each")
    asked = [stage.known.unsolved[case.data["question"]] for case in cases]
    written = agent.sample(asked, OWN, f"acting {stage.seed}")
    groups = [
        Group(case, tuple(Outcome(one.text) for one in group.outcomes))  # as the reward model has met solutions
        for case, group in zip(cases, written, strict=True)
    ]
    say("the critics examine them")
    for first in range(0, len(groups), CHUNK):
        assist(stage.helpers, groups[first : first + CHUNK])  # kept, should it be interrupted
    examined = assist(stage.helpers, groups)
    assert alone.reward is not None and stage.root.reward is not None
    scores = {"alone": alone.reward.score(groups), "assisted": stage.root.reward.score(examined)}
    return {
        "right": [[float(right(group.case, one)) for one in group.outcomes] for group in groups],
        "answers": [[None if (a := answer(one.text)) is None else str(a) for one in g.outcomes] for g in groups],
        "scores": {name: [score.mean.tolist() for score in rows] for name, rows in scores.items()},
        "examples": [{"question": g.case.data["question"], "solution": g.outcomes[0].text} for g in groups[:2]],
    }


# --- running them ------------------------------------------------------------------------------------


class Spent:
    """Processor seconds of a part, of all the processes that worked on it; kept every half minute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: float = json.loads(path.read_text())["processor seconds"] if path.exists() else 0.0
        self.began, self.kept = _processor(), time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + _processor() - self.began

    def keep(self, *_: Any) -> None:
        """As a watch of a training: now and then."""
        if time.monotonic() - self.kept > 30:
            self.write()

    def write(self) -> None:
        """Now."""
        self.kept = time.monotonic()
        write_atomically(self.path, json.dumps({"processor seconds": round(self.seconds, 1)}).encode())


def _processor() -> float:
    own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


class Models:
    """Loaded when they are first asked for, once."""

    def __init__(self, quick: bool, precision: str) -> None:
        self._loaded: dict[str, Backbone] = {}
        self._quick, self._precision = quick, precision

    def __call__(self, name: str) -> Backbone:
        """By name or folder; in a smoke test always the miniature."""
        if name not in self._loaded:
            backbone = self._loaded[name] = miniature() if self._quick else Backbone.load(name)
            backbone.precision = Precision() if self._quick else Precision(self._precision, self._precision)
        return self._loaded[name]


def run(args: argparse.Namespace, seeds: Sequence[int]) -> None:
    """Every part of every seed that is not there yet. What is there was asked for alike, or it stops before anything is
    computed."""
    load = Models(args.quick, args.precision)
    todo = [(seed, part, args.out / part / f"{seed}.json") for seed in seeds for part in args.part]
    for _, part, path in todo:
        if path.exists():
            before = json.loads(path.read_text())["asked"]
            differ = [f"{k} {before.get(k)}, now {v}" for k, v in asked(part, args).items() if before.get(k) != v]
            if differ:
                raise SystemExit(f"error: {path} was made with {'; '.join(differ)}; ask alike, or give another --out")
    for seed, part, path in todo:
        if not path.exists():
            measure(part, seed, path, args, load)


def asked(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """What decides a part's result, of all that can be given."""
    names = ["model", "pairs", "practice", "attention", "precision", "quick"]
    names += {"weak-judge": ["judge"], "acting": ["acting"]}.get(part, [])
    return {name: getattr(args, name) for name in names}


def measure(part: str, seed: int, path: Path, args: argparse.Namespace, load: Models) -> None:
    """One part of one seed, into its file."""
    spent, began = Spent(args.out / "spent" / f"{seed} {part}.json"), time.monotonic()

    def say(what: str) -> None:
        print(f"seed {seed}, {part}, {(time.monotonic() - began) / 60:.1f} min: {what}", flush=True)

    solutions, backbone = Solutions.read(args.data), load(args.model)
    maker = RecordedMaker(backbone, ROOT_NAME, Recorded(solutions.recorded))
    user = BoundedUser(attention=args.attention, prior=PRIOR, descent=2, own_record=True, seed=seed)
    stage = WordStage(
        check(tree(solutions)), backbone, lambda: another(user), seed, args.out, args.pairs, args.practice, args.quick,
        watch=(spent.keep, progress(say)), maker=maker, solutions=solutions, acting=args.acting, say=say,
    )  # fmt: skip
    try:
        if part == "judging":
            result = judging(stage, say)
        elif part == "weak-judge":
            result = weak_judge(stage, ModelUser(load(args.judge)), say)
        elif part == "misleading":
            result = misleading(stage, say)
        else:
            result = acting(stage, backbone, say)
    finally:
        spent.write()
    record = {
        "about": about(stage, args), "asked": asked(part, args), "result": result, "code": code(),
        "threads": torch.get_num_threads(), "processor seconds": round(spent.seconds, 1),
    }  # fmt: skip
    write_atomically(path, json.dumps(without_nan(record), indent=1).encode() + b"\n")
    say(f"done, {spent.seconds / 60:.1f} processor minutes in all; {path}")


def about(stage: WordStage, args: argparse.Namespace) -> dict[str, Any]:
    """What the page says of how it was measured; seeds must agree in all of it."""
    size = {"pairs": len(stage.alone.held.pairs), "practice": len(stage.alone.practice.pairs), "acting": args.acting}
    models = {"model": "miniature", "judge": "miniature"} if args.quick else {"model": args.model, "judge": args.judge}
    return {**models, "attention": args.attention, "prior": PRIOR, "quick": args.quick, **size}


def progress(say: Callable[[str], None]) -> Callable[..., None]:
    """A watch that says which node is at what, at most every minute."""
    last: dict[str, Any] = {"phase": None, "at": 0.0}

    def watch(node: Any, event: Any) -> None:
        phase = (node.task.path, event.phase)
        if phase != last["phase"] and time.monotonic() - last["at"] > 60:
            last.update(phase=phase, at=time.monotonic())
            say(f"{node.task.path}: {event.phase}")

    return watch


def miniature() -> Backbone:
    """A random model of 0.1 M parameters that reads and writes bytes: everything runs, nothing is learned."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(["<s>", "</s>", *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(letters) + 2,
        max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone("miniature", LlamaForCausalLM(config).eval(), tokenizer, "full")


def results(out: Path, seeds: Sequence[int]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """What is there, by part and seed."""
    return {
        part: {s: json.loads(path.read_text()) for s in seeds if (path := out / part / f"{s}.json").exists()}
        for part in PARTS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen-0.5b", help="of the agent and the critics; as for rrm train")
    parser.add_argument("--judge", default="smollm2", help="the weaker model that judges in part weak-judge")
    parser.add_argument("--data", type=Path, help="the folder that has gsm8k/; default $RRM_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/words"))
    parser.add_argument("--seeds", default="1", help="how many, from 100 on; or which: 0-4, or 100, (of one)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--pairs", type=int, default=40, help="held-out questions, a pair each")
    parser.add_argument("--practice", type=int, default=12, help="questions whose pairs the user judges first")
    parser.add_argument("--acting", type=int, default=20, help="held-out questions that the model solves itself")
    parser.add_argument("--attention", type=int, default=6, help="facts the user can check for one pair")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--quick", action="store_true", help="a random miniature model: everything runs")
    parser.add_argument("--doc", type=Path, help="write the page there and compute nothing; what is by hand is kept")
    args = parser.parse_args(arguments)
    logging.disable_progress_bar()
    seeds = seeds_of(args.seeds)
    if args.doc is None:
        run(args, seeds)
    given = sys.argv[1:] if arguments is None else list(arguments)
    text = page(results(args.out, seeds), f"python scripts/words.py {shlex.join(given)}", args.doc)
    if args.doc is None:
        print(text)
    else:
        write_atomically(args.doc, text.encode())


if __name__ == "__main__":
    main()
