"""Pretrain a tiny model on a world's unlabeled, faulty corpus.

    python scripts/pretrain.py --out rrm/models/embedded               # the papers world: the embedded model
    python scripts/pretrain.py --world chip --out runs/chip-model      # the chip world: the model "embedded-chip"
    python scripts/pretrain.py --world games --width 64 --layers 2 --late 100 --max-steps 1500 --decay 300 \
        --slack 0.02 --every 100 --out rrm/models/embedded_games       # the games: the model "embedded-games"

From tables and short texts to whole papers and critiques, every one with the corpus's errors in it. Skills
appear suddenly (copying the brief, then arithmetic), so training stops on measured skill, not on steps:
every role must come within `--slack` of the corpus's own, or the run fails and says which role did not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrm.measure.skills import CHIP, GAMES, PAPERS, Skills, corpus_skill, skill
from rrm.models.folders import read_model
from rrm.worlds.chip import corpus as chip
from rrm.worlds.games import corpus as games
from rrm.worlds.papers import Difficulty
from rrm.worlds.papers import corpus as papers

Text = papers.Corpus | chip.Corpus | games.Corpus


@dataclass(frozen=True)
class World:
    """What a model of a world is pretrained on. early, late: shares of each role in a batch, at the start (tables and
    short texts) and in the end (whole papers or designs, and critiques). brackets: they part words, too."""

    skills: Skills
    vocabulary: list[str]
    corpus: Callable[[random.Random], Text]
    early: dict[str, float]
    late: dict[str, float]
    brackets: bool = False


WORLDS = {
    "papers": World(
        PAPERS, papers.vocabulary(), lambda rng: papers.Corpus(rng, difficulty=Difficulty(known=4)),
        early={
            "paper": 0, "writing": 1, "novelty": 1, "experiments": 0.3, "proofs": 0.3, "steps": 4, "table": 1,
            "list": 1,
        },
        late={
            "paper": 3, "writing": 0.5, "novelty": 1, "experiments": 2, "proofs": 2, "steps": 1, "table": 1,
            "list": 1,
        },
    ),
    "chip": World(
        CHIP, chip.vocabulary(), chip.Corpus,
        early={"chip": 0.5, "benchmark": 1, "segments": 4, "heat": 2, "lifetime": 1, "security": 1},
        late={"chip": 3, "benchmark": 2, "segments": 2, "heat": 1, "lifetime": 1, "security": 1},
    ),
    "games": World(
        GAMES, games.vocabulary(), games.Corpus, early={"pile": 1, "nim": 1, "king": 1, "verdict": 0.5, "line": 2},
        late={"pile": 1, "nim": 1, "king": 1, "verdict": 0.5, "line": 2}, brackets=True,
    ),
}  # fmt: skip
BUCKETS = 4


def make_tokenizer(vocabulary: Sequence[str], brackets: bool = False) -> PreTrainedTokenizerFast:
    """One token per word, in the vocabulary's order; words stand between blanks, or, with `brackets`, also between
    those."""
    words = {word: i for i, word in enumerate(vocabulary)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    between = pre_tokenizers.Split(Regex("[()]"), "isolated")
    blanks = pre_tokenizers.WhitespaceSplit()
    raw.pre_tokenizer = pre_tokenizers.Sequence([blanks, between]) if brackets else blanks
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=512
    )


def make_model(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    """A small Llama of random weights, with tied embeddings and room for 512 tokens."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
            num_attention_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        )
    )  # fmt: skip


def batch(
    corpus: Text, shares: dict[str, float], docs: int, index: dict[str, int]
) -> list[tuple[torch.Tensor, ...]]:
    """Documents of one step, in buckets of like length: ids (docs, tokens) and labels, -100 where unscored."""
    roles = corpus.rng.choices(list(shares), weights=list(shares.values()), k=docs)
    rows = []
    for role in roles:
        prompt, outcome = (text.split() for text in corpus.document(role))
        ids = [index[w] for w in (*prompt, *outcome, "<eos>")]
        skipped = len(prompt)  # prompts are mostly noise: scoring them drowns what can be learned
        rows.append((ids, [-100] * skipped + ids[skipped:]))
    rows.sort(key=lambda row: len(row[0]))
    buckets = []
    for start in range(0, docs, docs // BUCKETS):
        part = rows[start : start + docs // BUCKETS]
        length = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in part])
        labels = torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in part])
        buckets.append((ids, labels))
    return buckets


def main() -> None:
    """Train until every skill is there or the steps run out, and write the model with a record of how; exits with an
    error if a skill is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, tokenizer and card")
    parser.add_argument("--world", choices=list(WORLDS), default="papers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="go on from these weights, straight into the decay")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--late", type=int, default=500, help="step at which whole papers or designs begin to come in")
    parser.add_argument("--docs", type=int, default=128, help="documents in a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--max-steps", type=int, default=6000)
    parser.add_argument(
        "--decay", type=int, default=800, help="steps of learning-rate decay once every skill is there"
    )
    parser.add_argument(
        "--slack", type=float, default=0.06, help="how far below the corpus's own skill is enough"
    )
    parser.add_argument("--every", type=int, default=250, help="steps between skill tests")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    world = WORLDS[args.world]
    tokenizer = make_tokenizer(world.vocabulary, world.brackets)
    index = tokenizer.get_vocab()
    corpus = world.corpus(random.Random(args.seed))
    target = corpus_skill(seed=args.seed + 1, world=world.skills)
    model = make_model(tokenizer, args.width, args.layers)
    if args.start:
        mend = "give a folder that this script wrote"
        model = read_model(LlamaForCausalLM, args.start, f"cannot go on from {args.start}", mend)
        args.max_steps = 0
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters; the corpus's own skill: {target}"
    )

    began, decay_from, mean_loss, scores = time.time(), None, 5.0, {}
    for step in range(args.max_steps + args.decay):
        if decay_from is None and step >= args.max_steps:
            decay_from = step
        late = 1.0 if args.start else min(1.0, max(0.0, step / (2 * args.late) - 0.5))
        shares = {role: (1 - late) * world.early[role] + late * world.late[role] for role in world.early}
        rate = min(1.0, (step + 1) / 100)
        if decay_from is not None:
            rate *= max(0.0, 0.5 * (1 + math.cos(math.pi * (step - decay_from) / args.decay)))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = args.lr * rate
        buckets = batch(corpus, shares, args.docs, index)
        scored = sum(int((labels[:, 1:] != -100).sum()) for _, labels in buckets)
        for ids, labels in buckets:
            logits = model(ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
            )
            (loss / scored).backward()
            mean_loss += 0.02 * (float(loss.detach()) / scored - mean_loss) / len(buckets)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % args.every == 0:
            scores = skill(model, tokenizer, seed=args.seed + 2, world=world.skills)
            missing = [role for role in target if scores[role] < target[role] - args.slack]
            print(
                f"step {step + 1} loss {mean_loss:.3f} {time.time() - began:.0f}s {scores} missing: {missing}",
                flush=True,
            )
            model.save_pretrained(args.out)
            tokenizer.save_pretrained(args.out)
            if decay_from is None and not missing and step > 3 * args.late:
                decay_from = step
        if decay_from is not None and step - decay_from >= args.decay:
            break

    scores = skill(model, tokenizer, seed=args.seed + 3, n=400, world=world.skills)
    missing = [role for role in target if scores[role] < target[role] - args.slack]
    args.out.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    weights = hashlib.sha256((args.out / "model.safetensors").read_bytes()).hexdigest()
    record = {
        "command": f"python scripts/pretrain.py --world {args.world} --out {args.out} --seed {args.seed} "
        f"--width {args.width} --layers {args.layers} --docs {args.docs} --late {args.late} --lr {args.lr} "
        f"--max-steps {args.max_steps} --decay {args.decay}"
        + (f" --start {args.start}" if args.start else ""),
        "seed": args.seed, "steps": step + 1, "minutes": round((time.time() - began) / 60, 1), "sha256": weights,
        "corpus_errors": dict(getattr(corpus.errors, "__dict__", corpus.errors)), "corpus_skill": target,
        "model_skill": scores, "missing": missing,
    }  # fmt: skip
    (args.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    if missing:
        raise SystemExit(f"these roles are not up to the corpus: {missing}; try another seed or more steps")


if __name__ == "__main__":
    main()
