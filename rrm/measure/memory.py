"""How memory grows with the tree: one backbone serves every node, so it should hardly grow at all.

    python -m rrm.measure.memory --nodes 10

trains a root and its assistants, end to end, on a Llama of random weights (135 M parameters by default), and prints
the peak memory of the process as JSON. Ask twice, in two processes, and divide.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rrm.core.records import Case, Fact, Finding, Outcome, Sealed
from rrm.core.settings import Settings
from rrm.core.task import Pool, Task
from rrm.loop.training import train
from rrm.models.backbone import Backbone
from rrm.users.bounded import BoundedUser

SETTINGS = Settings(
    rounds=1, cases=3, outcomes=2, comparisons=3, frame_cases=0, max_tokens=16, drafts=1, steps=1, batch=2, group=4
)  # fmt: skip


def random_llama(layers: int = 30, vocabulary: int = 49152, seed: int = 0) -> Backbone:
    """A Llama of SmolLM2-135M's shape with random weights, and a tokenizer of the words w0, w1, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"</s>": 0} | {f"w{i}": i for i in range(1, vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, eos_token="</s>", pad_token="</s>"
    )
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=vocabulary, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Backbone("random", LlamaForCausalLM(config), tokenizer, "lora")


def tree(nodes: int, settings: Settings = SETTINGS) -> Task:
    """A root with `nodes - 1` assistants; their tasks are about the words of a text, and mean nothing."""

    def facts(case: Case, outcome: Outcome) -> Sequence[Fact]:
        return [Fact("even", "form", Sealed(len(outcome.text) % 2 == 0))]

    def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
        return [Case(f"{case.prompt} {outcome.text}")]

    def findings(case: Case, outcome: Outcome) -> Sequence[Finding]:
        return [Finding("even", len(outcome.text) % 3 > 0)]

    def task(name: str, **more: Any) -> Task:
        return Task(name, instruction="Which is better?", facts=facts, settings=settings, **more)

    subs = [task(f"sub{i}", frame=frame, findings=findings, covers=("form",)) for i in range(1, nodes)]
    cases = Pool(tuple(Case(" ".join(f"w{7 * i + j}" for j in range(1, 49))) for i in range(8)))
    return task("root", cases=cases, assistants=tuple(subs))


def measure(nodes: int, layers: int = 30, vocabulary: int = 49152) -> dict[str, float]:
    """Train a tree of `nodes` nodes and report memory in MB: before the tree, and the peak."""
    began = time.monotonic()
    backbone = random_llama(layers, vocabulary)
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        train(tree(nodes), BoundedUser(), backbone, folder)
    parameters = sum(p.numel() for name, p in backbone.model.named_parameters() if "lora_" not in name)
    return {
        "nodes": nodes,
        "parameters": parameters,
        "loaded_mb": before,
        "peak_mb": peak(),
        "seconds": time.monotonic() - began,
    }


def peak() -> float:
    """The most memory this process has held, in MB.

    On Linux from /proc: getrusage there also remembers what the process that started this one held at that time.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """The command of the module's text."""
    parser = argparse.ArgumentParser(description="Peak memory of training a tree, as JSON.")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=49152)
    args = parser.parse_args()
    print(json.dumps(measure(args.nodes, args.layers, args.vocabulary)))


if __name__ == "__main__":
    main()
