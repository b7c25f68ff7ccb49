"""The parts of scripts/bench_gpu.py."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks import trl_side
from benchmarks.common import KL, LR, hash_reward, in_precision, text_of
from rrm.core.records import Case, Group, Outcome
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import improving, rloo
from rrm.learning.improving import Updater
from rrm.models import sampling
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 20_000,
    },
    "qwen-0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "llama-1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256,
    },
    "qwen-1.5b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "qwen-8b": {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 151_936,
    },
}  # fmt: skip
"""Of Qwen2.5 0.5B and 1.5B, of Llama 3.2 1B, and, without its norms of queries and keys, of Qwen3 8B."""
PRODUCT = 8192
"""Rows, columns and depth of the product that a card's speed is measured with."""


@dataclass(frozen=True)
class Step:
    """One policy step."""

    cases: int
    outcomes: int
    case: int
    outcome: int

    @property
    def rows(self) -> int:
        """Outcomes in all."""
        return self.cases * self.outcomes

    def __str__(self) -> str:
        return f"{self.cases} cases of {self.case} tokens, {self.outcomes} outcomes of {self.outcome}"


def synchronize() -> None:
    """Wait for what was launched."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, all that it launched included."""
    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


@contextmanager
def peak(into: dict[str, Any], name: str) -> Iterator[None]:
    """Note the most GiB that torch held on the GPU meanwhile."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield
    if torch.cuda.is_available():
        into[name] = round(torch.cuda.max_memory_allocated() / 2**30, 2)


class Bench:
    """The model, the step, and what was found."""

    def __init__(self, model: str, step: Step, runs: int, rows: Sequence[int] = (16, 32, 64)) -> None:
        self.model, self.step, self.runs, self.rows = model, step, runs, rows
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.found: dict[str, Any] = {"model": model, "step": str(step), "runs": runs}

    def network(self) -> Any:
        """A model with random weights in bfloat16, the same at every call."""
        config = Qwen2Config(
            **SHAPES[self.model], max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1,
            eos_token_id=2, pad_token_id=2, use_sliding_window=False,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]), torch.device(self.device):
            torch.manual_seed(0)
            return in_precision(Qwen2ForCausalLM(config).eval(), "bfloat16")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One word per token: w3, w4, ..."""
        words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, self.vocabulary)}
        inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
        )

    @property
    def vocabulary(self) -> int:
        """Tokens that stand for something: Qwen's embedding has 271 rows more."""
        return SHAPES[self.model]["vocab_size"] - 271

    def backbone(self) -> Backbone:
        """Our side's model. The weights are widened, verified, and rounded again: nothing is lost."""
        model = Backbone("bench", self.network().float(), self.tokenizer, adapters="lora")
        model.precision = Precision("bfloat16", "bfloat16")
        return model

    def prompts(self, n: int) -> list[str]:
        """Random words."""
        made = []
        for i in range(n):
            ids = torch.randint(3, self.vocabulary, (self.step.case,), generator=generator("bench", str(i)))
            made.append(text_of(ids.tolist()))
        return made

    def alternate(self, name: str, sides: dict[str, Callable[[], float]], warm: bool = False) -> dict[str, float]:
        """Medians of the sides' runs, taken in turn after one of each that does not count, unless they are `warm`."""
        values: dict[str, list[float]] = {side: [] for side in sides}
        for run in range(int(warm), self.runs + 1):
            for side, work in sides.items():
                gc.collect()
                value = work()
                print(f"{name}: {side} {value:.3f}{'' if run else ' (warm-up)'}", flush=True)
                if run:
                    values[side].append(value)
        self.found.setdefault(name, {})["raw"] = values
        return {side: statistics.median(all_) for side, all_ in values.items()}


# --- the parts -----------------------------------------------------------------------------------------


def facts(bench: Bench) -> None:
    """The card, and how fast it multiplies."""
    found: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__}
    if torch.cuda.is_available():
        found |= {"card": torch.cuda.get_device_name(), "tflops": card_product()}
    bench.found["facts"] = found
    print(found, flush=True)


def card_product() -> float:
    """TFLOP/s of a large product in bfloat16 of random numbers."""
    a, b = (torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    taken = [seconds(lambda: [a @ b for _ in range(10)]) / 10 for _ in range(4)][1:]
    return 2 * PRODUCT**3 / statistics.median(taken) / 1e12


def sampling_(bench: Bench) -> None:
    """Tokens per second: ours, ours without recording, transformers' generate."""
    step, model = bench.step, bench.backbone()
    agent = TextAgent(model, model.start, step.outcome)
    cases = [Case(prompt) for prompt in bench.prompts(step.cases)]
    prefixes = [model.render(case.prompt) for case in cases]
    count = 0

    def ours(recording: bool) -> float:
        nonlocal count
        count += 1
        keys = [f"{count}/{i}" for i in range(len(cases))]
        real = sampling.records
        sampling.records = real if recording else lambda fork: False  # type: ignore[assignment]
        try:
            took = seconds(
                lambda: sampling.sample(agent.fork, prefixes, step.outcomes, step.outcome, 1.0, keys, ())
            )
        finally:
            sampling.records = real  # type: ignore[assignment]
        return step.rows * step.outcome / took

    other = bench.network()
    inputs = torch.tensor(prefixes, device=bench.device)
    how = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=step.outcomes, use_cache=True,
        min_new_tokens=step.outcome, max_new_tokens=step.outcome, eos_token_id=2, pad_token_id=2, bos_token_id=1,
    )  # fmt: skip

    def peer() -> float:
        def work() -> None:
            out = other.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=how)
            assert out.shape == (step.rows, step.case + step.outcome)

        with torch.inference_mode():
            return step.rows * step.outcome / seconds(work)

    found = bench.found.setdefault("sampling", {})
    with peak(found, "GiB"):
        ours(True)
    medians = bench.alternate(
        "sampling", {"rrm": lambda: ours(True), "unrecorded": lambda: ours(False), "generate": peer}
    )
    found |= {"tokens per second": medians, "times generate": medians["rrm"] / medians["generate"]}
    print({key: value for key, value in found.items() if key != "raw"}, flush=True)


class Ours:
    """Policy steps, and how long their parts take."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.step = bench, bench.step
        model = bench.backbone()
        self.agent = TextAgent(model, model.fork("agent"), bench.step.outcome)
        self.cases = Pool(tuple(Case(prompt) for prompt in bench.prompts(bench.step.cases)))
        self.settings = Settings(
            steps=1, batch=bench.step.cases, group=bench.step.outcomes, lr=LR, kl=KL, max_kl=1e9
        )
        self.done, self.parts = 0, dict[str, float]()

    def take(self) -> float:
        """Seconds of one step whose outcomes all have full length: none ends by itself."""
        self.done += 1
        parts = self.parts = {}
        agent, collect, reference = self.agent, improving.collect, improving.reference_logprobs
        ends, model = agent.backbone.chat.ends, agent.backbone

        def collected(*args: Any) -> Any:
            found: list[Any] = []
            parts["collect"] = seconds(lambda: found.append(collect(*args)))
            return found[0]

        def referred(*args: Any) -> Any:
            found: list[Any] = []
            parts["reference"] = seconds(lambda: found.append(reference(*args)))
            return found[0]

        def judge(groups: Sequence[Group]) -> list[torch.Tensor]:
            return [torch.tensor([hash_reward(o.text) for o in g.outcomes]) for g in groups]

        improving.collect, improving.reference_logprobs = collected, referred  # type: ignore[assignment]
        model.ends = frozenset()
        key = f"{self.done}"
        try:
            took = seconds(lambda: rloo.improve(agent, judge, self.cases, self.settings, key, lambda *metrics: None))
        finally:
            improving.collect, improving.reference_logprobs, model.ends = collect, reference, ends
        parts["sample"] = parts.pop("collect") - parts["reference"]
        parts["train"] = took - parts["sample"] - parts["reference"]
        return took

    def flops(self) -> float:
        """Of a step's training: forward and the gradients of activations; frozen weights have none."""
        size = SHAPES[self.bench.model]
        head = size["vocab_size"] * size["hidden_size"]
        named = self.agent.backbone.model.named_parameters()
        layers = sum(p.numel() for name, p in named if "lora_" not in name) - head
        step = self.step
        length = step.case + step.outcome
        attention = 2 * size["num_hidden_layers"] * size["hidden_size"] * length  # causal: half of the cells
        return step.rows * (length * (4 * layers + 2 * attention) + step.outcome * 4 * head)


def update(bench: Bench) -> None:
    """A policy step's update alone, on outcomes of random tokens, and what it reaches of a large product."""
    ours, step = Ours(bench), bench.step
    groups = []
    for i, case in enumerate(ours.cases.draw(step.cases, "update")):
        ids = torch.randint(3, bench.vocabulary, (step.outcomes, step.outcome), generator=generator("update", str(i)))
        groups.append(Group(case, tuple(Outcome("", tuple(row)) for row in ids.tolist())))
    advantage = torch.randn(step.rows, generator=generator("update"))
    updater = Updater(ours.agent.fork, LR, 1000)

    def work() -> None:
        updater.step(rloo._losses(ours.agent, groups, advantage, len(advantage)))

    work()
    found = bench.found.setdefault("update", {})
    with peak(found, "GiB"):
        taken = [seconds(work) for _ in range(bench.runs)]
    reached = ours.flops() / statistics.median(taken) / 1e12
    found |= {"seconds": taken, "TFLOP/s": reached}
    if bench.device == "cuda":
        product = card_product()
        found |= {"product TFLOP/s": product, "share": reached / product}
    with torch.no_grad():
        ours.agent.logprobs(groups)
        found["reading, seconds"] = [seconds(lambda: ours.agent.logprobs(groups)) for _ in range(bench.runs)]
    print(found, flush=True)


def policy(bench: Bench) -> None:
    """One RLOO step: ours against TRL's RLOOTrainer."""
    trl_side.require_trl()
    found = bench.found.setdefault("policy", {})
    ours = Ours(bench)
    with peak(found, "GiB"):
        ours.take()
    print({"GiB": found.get("GiB"), "parts": ours.parts, "capacity": str(ours.agent.backbone.capacity)}, flush=True)
    with tempfile.TemporaryDirectory() as out:
        trainers = {rows: _trainer(bench, rows, Path(out) / str(rows)) for rows in _rows(bench)}
        with peak(found, "TRL GiB"):
            times = {rows: _reached(rows, *trainer) for rows, trainer in trainers.items()}  # not counted: a warm-up
        rows = min(times, key=lambda rows: times[rows])
        trainer, clock = trainers.pop(rows)
        trainers.clear()

        def peer() -> float:
            trainer.train()
            return clock.steps[-1]

        ours.take()
        medians = bench.alternate("policy", {"rrm": ours.take, "trl": peer}, warm=True)
    found |= {"seconds": medians, "times faster": medians["trl"] / medians["rrm"], "parts": ours.parts}
    found |= {"TRL rows": rows, "train TFLOP/s": ours.flops() / ours.parts["train"] / 1e12}
    print({key: value for key, value in found.items() if key != "raw"}, flush=True)


def _rows(bench: Bench) -> list[int]:
    """Sizes of micro-batches that TRL is tried with."""
    return [rows for rows in bench.rows if bench.step.rows % rows == 0] or [bench.step.rows]


def _reached(rows: int, trainer: Any, clock: trl_side.Clock) -> float:
    try:
        trainer.train()
    except torch.OutOfMemoryError:
        return float("inf")
    print(f"policy: TRL with {rows} rows at once {clock.steps[-1]:.2f} (warm-up)", flush=True)
    return clock.steps[-1]


def _trainer(bench: Bench, rows: int, out: Path) -> tuple[Any, trl_side.Clock]:
    import trl
    from datasets import Dataset

    step, clock = bench.step, trl_side.Clock()
    settings = trl_side.COMMON | {
        "use_cpu": bench.device == "cpu", "bf16": False, "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": step.rows // rows, "num_generations": step.outcomes,
        "max_completion_length": step.outcome, "beta": KL, "temperature": 1.0,
        "generation_kwargs": {"min_new_tokens": step.outcome, "use_cache": True},
    }  # fmt: skip
    trainer = trl.RLOOTrainer(
        model=bench.network(), args=trl.RLOOConfig(output_dir=str(out), **settings),
        train_dataset=Dataset.from_dict({"prompt": bench.prompts(step.cases)}), processing_class=bench.tokenizer,
        reward_funcs=lambda completions, **kwargs: [hash_reward(text) for text in completions], callbacks=[clock],
        peft_config=trl_side.lora("CAUSAL_LM"),
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer, clock


def fit(bench: Bench) -> None:
    """A reward model with a trained trunk, fitted to all pairs of the step's cases: comparisons per second."""
    from itertools import combinations

    from rrm.core.judgements import Comparison, Judgement, Pair
    from rrm.learning.fitting import fit_reward
    from rrm.models.reward import TextRewardModel, trunk

    ours = Ours(bench)
    comparisons = []
    for group in ours.agent.sample([*ours.cases.draw(16, "fit")], bench.step.outcomes, "fit"):
        for a, b in combinations(group.outcomes, 2):
            judgement = Judgement(float(hash_reward(a.text) > hash_reward(b.text)))
            comparisons.append(Comparison(Pair("bench", group.case, a, b), judgement, 0, "hash"))
    model, found = ours.agent.backbone, bench.found.setdefault("fit", {})
    for name in ("frozen", "trained"):
        how = Settings(reward_trunk=name, reward_batch=4, reward_lr=LR, holdout=0, reward_epochs=1)

        def work(how: Settings = how) -> None:
            fit_reward(TextRewardModel(model, trunk(model, "reward", how.reward_trunk), how), comparisons, how, "bench")

        work()
        with peak(found, f"{name} GiB"):
            found[f"{name}, comparisons per second"] = len(comparisons) / seconds(work)
    print(found, flush=True)


def bits(bench: Bench) -> None:
    """Whether a policy step from the same weights gives the same weights, to the bit."""
    ours = Ours(bench)
    begin, after = ours.agent.state(), []
    for _ in range(2):
        ours.agent.load(begin)
        ours.done = 0
        ours.take()
        after.append(ours.agent.version)
    bench.found["bits"] = {"same": after[0] == after[1]}
    print(bench.found["bits"], flush=True)


def compiled(bench: Bench) -> None:
    """Policy steps with the passes over whole sequences compiled by torch."""
    ours = Ours(bench)
    ours.agent.backbone.compile = True
    found = bench.found.setdefault("compiled", {})
    for name in ("first", "second", "third"):
        found[name] = {"seconds": ours.take(), "parts": ours.parts}
        print(name, found[name], flush=True)


def profile(bench: Bench) -> None:
    """Where a step's time goes: the kernels and calls that take most."""
    ours = Ours(bench)
    ours.take()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        ours.take()
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=by, row_limit=28, max_name_column_width=60)
    print("\n".join(line[:62] + line[-110:] for line in table.splitlines()), flush=True)
    print(ours.parts, flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "facts": facts, "update": update, "sampling": sampling_, "policy": policy, "fit": fit, "bits": bits,
    "compiled": compiled, "profile": profile,
}  # fmt: skip
DEFAULT = ("facts", "update", "sampling", "policy", "fit", "bits")
