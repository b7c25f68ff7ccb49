"""Which architectures of the installed transformers are exact: the table of docs/architectures.md.

    python scripts/architectures.py                      # all of them: ten minutes
    python scripts/architectures.py llama mistral        # some
    python scripts/architectures.py --write docs/architectures.md

Each is made small from its default configuration, or settings that people use (`VARIANTS`), with random weights of
standard deviation 0.3, and loaded as a user's model would be. Then packed and sampled log-probabilities, within and
beyond its window, are compared with transformers' own passes of one sequence each. And faults are planted, one at a
time, to see whether the comparison would have told.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import json

import torch
import transformers as tf
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rrm.core.errors import ModelError
from rrm.models.architecture import RAW
from rrm.models.backbone import Backbone
from rrm.models.miniature import shrink, spread, tokenizer
from rrm.models.verification import BEYOND, FAR, TOLERANCE, WITHIN, packed, sampled
from rrm.models.visibility import Visibility

SECONDS = 90
"""Longest time for one architecture."""
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
KINDS = ["sliding_attention", "full_attention"]


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


_LONG = _rope(
    "longrope",
    short_factor=[1.0] * 48,
    long_factor=[1.0 + i / 8 for i in range(48)],
    original_max_position_embeddings=48,
)
DEFAULTS: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(KINDS, _ROPE)},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "deepseek_v2": {"n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "nemotron": {"num_key_value_heads": 8},
}
"""What a default configuration lacks."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon, new decoder": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, ALiBi (falcon-rw)": ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False}),
    "gemma2, no soft caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "granite, scaled logits": ("granite", {"logits_scaling": 4.0}),
    "llama, dynamic NTK": ("llama", _rope("dynamic", factor=2.0)),
    "llama, linear": ("llama", _rope("linear", factor=2.0)),
    "llama, Llama 3's positions": (
        "llama",
        _rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=48),
    ),
    "llama, YaRN": ("llama", _rope("yarn", factor=4.0, original_max_position_embeddings=48)),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "opt, narrow embedding (OPT-350m)": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "phi3, long-RoPE": ("phi3", _LONG),
    "phi3, window": ("phi3", {"sliding_window": 64}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}),
    "qwen3, window": ("qwen3", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}),
    "starcoder2, window": ("starcoder2", {"sliding_window": 64}),
}
"""Settings that people use, beside the defaults."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    state: str
    """"exact", "refused", "not tried" or "FAULT"."""
    how: str
    """How it is decoded and up to where, or why it is not."""
    error: float = 0.0
    """Largest difference seen: nats, or a share of the log-probability beyond 1 nat."""
    planted: float = 0.0
    """The least difference that a planted fault makes; 0 if nothing was planted."""


def config(name: str) -> Any:
    """The small configuration of a row."""
    kind, settings = VARIANTS.get(name) or (name, DEFAULTS.get(name, {}))
    made = CONFIG_MAPPING[kind](**settings)
    if hasattr(made, "is_decoder"):
        made.is_decoder = True
    small = shrink(made)
    for setting in ("word_embed_proj_dim",):  # the point of the variant is that it differs
        if setting in settings:
            setattr(small, setting, settings[setting])
    return small


def row(name: str) -> Row:
    """Make one, load it, compare."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = spread(tf.AutoModelForCausalLM.from_config(config(name)))
    except RAW as error:
        return Row(name, "not tried", f"no small one could be made: {_short(error)}")
    try:
        b = Backbone(name, model, tokenizer(), "full")
    except ModelError as error:
        works = _works(model)
        return Row(name, "refused", _reason(str(error))) if works is None or _named(error) else Row(
            name, "not tried", f"the small one does not compute: {works}"
        )
    except RAW as error:
        return Row(name, "FAULT", _short(error))
    caught = min(planted(b).values())
    error = compare(b)
    how = "case by case" if b.engine.groups else "joined caches"
    if b.architecture.window and not b.engine.windows:
        how += ", up to its window"
    elif b.architecture.window:
        how += ", windows"
    if b.engine.head:
        how += ", its own head"
    if "length of the pass" in b.architecture.why:
        how += ", up to the border of its positions"
    return Row(name, "exact" if error <= TOLERANCE else "FAULT", how, error, caught)


def compare(b: Backbone) -> float:
    """The largest error of packed and of sampled log-probabilities."""
    return max(measure(b, p) for p in _probes(b) for measure in (packed, sampled))


def _probes(b: Backbone) -> list[Any]:
    some = (WITHIN, BEYOND, FAR) if b.engine.windows or not b.architecture.window else (WITHIN,)
    return [p for p in some if max(p.prefixes) + max(*p.segments, p.tokens) <= b.limit]


def planted(b: Backbone) -> dict[str, float]:
    """The error that each of some faults makes: fault -> error."""
    found = {}
    architecture, run = b.architecture, b.start.run
    worst = [p for p in _probes(b)][-2:]

    def off(ids: Tensor, positions: Tensor, mask: Tensor | Visibility | None, cache: Any = None) -> Tensor:
        return run(ids, torch.where(positions > 1, positions + 1, positions), mask, cache)

    def seen(ids: Tensor, positions: Tensor, mask: Tensor | Visibility | None, cache: Any = None) -> Tensor:
        if isinstance(mask, Visibility):
            n = ids.shape[-1]
            mask = torch.full((n, n), -torch.inf).triu_(1).expand(len(ids), 1, n, n)
        return run(ids, positions, mask, cache)

    for what, fault in (("positions", off), ("masks", seen)):
        b.start.run = fault  # type: ignore[method-assign]
        try:
            found[what] = max(packed(b, p) for p in worst)
        finally:
            b.start.run = run  # type: ignore[method-assign]
    if architecture.window and b.engine.windows:
        b.architecture = replace(architecture, window=architecture.window + 1)
        try:
            found["windows"] = max(packed(b, p) for p in worst)
        finally:
            b.architecture = architecture
    return found


def _works(model: Any) -> str | None:
    """None if a plain pass computes, else why not."""
    try:
        with torch.no_grad():
            model(input_ids=torch.arange(3, 9)[None], use_cache=False)
    except RAW as error:
        return _short(error)
    return None


def _named(error: ModelError) -> bool:
    return "share its pass (" not in str(error) and "sampled together (" not in str(error)


def _reason(text: str) -> str:
    text = text.split("' ", 1)[-1].split(", so outcomes")[0].split("; use")[0]
    if "share its pass (" in text or "sampled together (" in text:
        said = text.split(" (", 1)[1].rsplit("): ", 1)[0]
        return f"does not go by 4-D masks and positions ({'raises' if 'raises' in said else 'differs'})"
    return text


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()).split(". ")[0].replace("|", "/")
    return f"{type(error).__name__}: {text if len(text) <= 90 else text[:90].rsplit(' ', 1)[0] + ' ...'}"


@contextmanager
def _file() -> Iterator[Path]:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink()


def apart(name: str) -> Row:
    """`row` in a process of its own, which may hang or die."""
    with _file() as answer:
        process = os.fork()
        if process == 0:
            signal.alarm(SECONDS)
            try:
                torch.set_num_threads(1)
                answer.write_text(json.dumps(asdict(row(name))))
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(0)
        _, status = os.waitpid(process, 0)
        said = answer.read_text()
    if said:
        return Row(**json.loads(said))
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
    return Row(name, "FAULT", f"no answer within {SECONDS} s" if late else "an error that nobody caught, or a crash")


def names() -> list[str]:
    """All rows of the table."""
    return sorted([*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS])


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = ["| architecture | | decoding, or the reason |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {r.name} | {r.state} | {r.how} |" for r in rows)])


def summary(rows: Sequence[Row]) -> str:
    """How many of each kind, and the digits."""
    exact = [r for r in rows if r.state == "exact"]
    counts = {state: sum(r.state == state for r in rows) for state in ("exact", "refused", "not tried", "FAULT")}
    blind = [r.name for r in exact if r.planted < 10 * TOLERANCE]
    return (
        f"transformers {tf.__version__}, torch {torch.__version__.split('+')[0]}: {counts['exact']} exact, "
        f"{counts['refused']} refused, {counts['not tried']} not tried, {counts['FAULT']} wrong. The largest error of "
        f"an exact one is {max((r.error for r in exact), default=0):.1e} (allowed: {TOLERANCE:.0e}); the least that a "
        f"planted fault makes is {min((r.planted for r in exact if r.name not in blind), default=0):.1e}"
        + (f", but for {', '.join(blind)}, where one does not show." if blind else ".")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write it between the marks of a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="rows of the table; all by default")
    parser.add_argument("--write", type=Path, help="the page to write it into")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rows = []
    for name in given.names or names():
        r = apart(name)
        rows.append(r)
        print(f"{r.name:36} {r.state:10} {r.how:60} {r.error:.1e} {r.planted:.1e}", flush=True)
    print(summary(rows))
    if given.write:
        text = given.write.read_text()
        before, rest = text.split("<!-- table -->\n")
        _, after = rest.split("<!-- end of table -->")
        found = f"{summary(rows)}\n\n{table(rows)}"
        given.write.write_text(f"{before}<!-- table -->\n{found}\n<!-- end of table -->{after}")
    return int(any(r.state == "FAULT" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
