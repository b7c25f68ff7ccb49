"""How fast a model of yours is on this machine: python scripts/speed.py smollm2

Prints a markdown table: sampling (one outcome at a time, and 16 at once), a training step (forward and backward over
about 1,024 tokens of packed groups) of LoRA and of full fine-tuning, and the frozen trunk's features, each in the
precisions that it can be had in. Threads as torch chooses them; OMP_NUM_THREADS=1 for one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from transformers.utils import logging

from rrm.core.records import Case, Group, Outcome
from rrm.core.settings import Settings
from rrm.measure.memory import peak
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision, limit_threads
from rrm.models.reward import TextRewardModel

CASE = Case("A friend cannot sleep well and asks for advice. Write a short and polite answer in plain words.")
ANSWER = "I am sorry to hear that. Please go to bed at the same time every day, and leave the telephone outside. "


def seconds(work: Callable[[], object], repeats: int = 2) -> float:
    """The best of some repeats, after one for warming up."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def groups_of(backbone: Backbone, tokens: int) -> tuple[list[Group], int]:
    """Groups of 4 outcomes with some `tokens` computed tokens in all (each case counted once), and how many really."""
    groups: list[Group] = []
    total = 0
    while total < tokens:
        outcomes = tuple(Outcome(ANSWER * 2 + f"Good night, {len(groups)}, {i}.") for i in range(4))
        groups.append(Group(Case(f"{CASE.prompt} It is letter {len(groups)}."), outcomes))
        total += len(backbone.render(groups[-1].case.prompt)) + sum(len(backbone.encode(o.text)) + 1 for o in outcomes)
    return groups, total


def sampling(backbone: Backbone, n: int, tokens: int) -> float:
    """Tokens per second, of outcomes that are cut at `tokens` (some end before)."""
    agent, drawn = TextAgent(backbone, backbone.fork("speed"), tokens), 0

    def work() -> None:
        nonlocal drawn
        (group,) = agent.sample([CASE], n, "speed")
        drawn = sum(len(o.tokens) for o in group.outcomes)

    taken = seconds(work)
    agent.fork.close()
    return drawn / taken


def training(backbone: Backbone) -> float:
    """Seconds per 1,024 tokens, forward and backward."""
    agent = TextAgent(backbone, backbone.fork("speed"), 64)
    groups, tokens = groups_of(backbone, 1024)

    def work() -> None:
        for part in agent.microbatches(groups):
            part.logprobs.sum().backward()  # type: ignore[no-untyped-call]

    taken = seconds(work, 1) * 1024 / tokens
    agent.fork.close()
    return taken


def features(backbone: Backbone) -> float:
    """Seconds per 1,024 tokens of a frozen trunk's features, which are computed once."""
    groups, tokens = groups_of(backbone, 1024)

    def work() -> None:
        TextRewardModel(backbone, backbone.frozen("speed"), Settings()).features(groups)

    return seconds(work, 1) * 1024 / tokens


def main() -> None:
    """Time the model in each precision, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as for rrm train --model")
    parser.add_argument("--full", action="store_true", help="time full fine-tuning, too: it needs 4 times the memory")
    name, full = (args := parser.parse_args()).model, args.full
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    limit_threads()
    print(f"{name}, {torch.get_num_threads()} thread(s)\n")
    print("| precision | sampling alone | 16 at once | LoRA step, 1,024 tokens | frozen features, 1,024 tokens |")
    print("| --- | --- | --- | --- | --- |")
    peaks = []
    for precision in (Precision(), Precision("bfloat16", "bfloat16")):
        backbone = Backbone.load(name, adapters="lora")
        backbone.precision = precision
        rates = [f"{sampling(backbone, n, 48):.0f} tokens/s" for n in (1, 16)]
        spans = [f"{work(backbone):.1f} s" for work in (training, features)]
        print(f"| {precision.weights} | {' | '.join([*rates, *spans])} |", flush=True)
        peaks.append(peak() / 1000)
    print(f"\npeak memory after float32: {peaks[0]:.1f} GB")
    if full:
        taken = training(Backbone.load(name, adapters="full"))
        print(f"full fine-tuning, float32: {taken:.1f} s per 1,024 tokens; peak memory {peak() / 1000:.1f} GB")


if __name__ == "__main__":
    main()
