"""A reward model as a folder that transformers' `AutoModelForSequenceClassification` loads: text in, one score out.

Such a model is a trunk and a linear head on the last hidden state. The mean of our heads is linear too, so they become
one head, exactly. What stands beside the hidden state (surprise, findings) has no place there: a reward model with them
is refused, or fitted anew without them (`refit`).

The classifier takes the last token that is not padding. Our rows end with end-of-text, so padding gets another token:
where both were one, transformers would read the token before it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrm.core.errors import ModelError
from rrm.core.judgements import Comparison, FitReport
from rrm.core.records import Group
from rrm.learning.fitting import fit_reward
from rrm.loop.reopen import reward_of
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup
from rrm.models.reward import TextRewardModel, trunk
from rrm.store.files import refuse_existing, whole_folder
from rrm.store.store import Store

CLOSE = 1e-4
"""How far an exported model's scores may be from the original's, both in float32."""
ROUNDED = "the run computed in less than float32, as what was exported does; its scores differed from these by"
TRIED = 16
"""Comparisons whose outcomes are scored by both before an export counts as done."""


@dataclass(frozen=True)
class Exported:
    """What became of an export."""

    offset: float
    """Our score is the exported model's plus this: classifiers of this kind have no bias."""
    error: float
    """Largest difference to our scores, offset included, over `tried` outcomes."""
    tried: int
    same_text: int
    """For how many of them the folder's chat template gives the same token ids as we do."""
    pad: str
    fit: FitReport | None
    """Of the refit, if there was one."""
    rounding: float | None = None
    """Largest difference of the reward model in float32 to what the run computed; None if that was in float32, too, or
    if it was fitted anew."""

    def summary(self, folder: Path) -> str:
        """What became of it, in words for the terminal."""
        lines = [
            f"{folder}: a sequence classifier; our score is its logit + {self.offset:.4g}",
            f"checked on {self.tried} outcomes of the run: scores differ by {self.error:.1g} at most; "
            f"its chat template gives our token ids for {self.same_text} of them; see {folder / 'README.md'}",
        ]
        if self.rounding is not None:
            lines.append(f"{ROUNDED} {self.rounding:.1g}")
        if self.fit is not None:
            lines.append(f"fitted anew on {self.fit.n} comparisons, text only: {_told(self.fit)}")
        return "\n".join(lines)


def _told(fit: FitReport) -> str:
    """How good a fit is, on what it did not see."""
    if fit.ignorant:
        return f"it has learned nothing, as {fit.ignorant}"
    if not fit.holdout_decided:
        return "nothing with a preference was held out"
    return f"it is right in {fit.holdout_right}/{fit.holdout_decided} held-out ones"


def export_reward(
    run: Path | str, node: str, folder: Path, refit: bool = False, round: int | None = None,
    card: tuple[str, str] = ("", ""),
) -> Exported:  # fmt: skip
    """Write a node's reward model for transformers and TRL: weights, tokenizer, README.md on how to build its text.

    refit: fit it anew on the run's comparisons of the node, without surprise and findings and without reading the
    assistance: what remains can be exported. (`round` does not matter then: all comparisons count.)

    The folder appears whole or not at all. Raises `ModelError` if it cannot be exported exactly, and says how it could;
    `RunError` if the folder is there already.
    """
    refuse_existing(folder)
    comparisons = _comparisons(Path(run), node)
    groups = [_group(c) for c in comparisons[-TRIED:]]
    reward, fit = reward_of(run, node, round, exact=True), None
    if refit:
        reward, fit = _refit(reward, comparisons, node)
    return write_reward(reward, node, groups, folder, fit, card, None if refit else _computed(run, node, round, groups))


def _computed(run: Path | str, node: str, round: int | None, groups: Sequence[Group]) -> list[Tensor] | None:
    """The scores as the run computed them; None if that was in float32."""
    reward = reward_of(run, node, round)
    if reward.backbone.precision.weights == "float32":
        return None
    return [score.mean for score in reward.score(groups)]


def write_reward(
    reward: TextRewardModel, node: str, groups: Sequence[Group], folder: Path, fit: FitReport | None = None,
    card: tuple[str, str] = ("", ""), computed: Sequence[Tensor] | None = None,
) -> Exported:  # fmt: skip
    """As `export_reward`, for a loaded reward model, checked on `groups`. Its backbone cannot be used afterwards."""
    if reward.settings.surprise or reward.assistants:
        beside = ["surprise"] * reward.settings.surprise + ["findings"] * bool(reward.assistants)
        raise ModelError(
            f"the reward model of {node!r} does not only read text: it has {' and '.join(beside)} beside it, for which "
            f"a sequence classifier has no place. Fit it anew without (rrm export RUN --reward-model {node} --refit), "
            f"train with {' '.join(f'--set {node}.{name}=false' for name in beside)}, or keep all of it: "
            "rrm.exchange.trl.reward_func"
        )
    rows, scores = reward.rows(groups), [score.mean for score in reward.score(groups)]
    weight = (reward.weight.detach().mean(0).cpu() / reward.scale).float()
    offset = -float(reward.shift.mean() / reward.scale)
    backbone = reward.backbone
    rounding = None
    if computed is not None:
        rounding = max((float((a - b).abs().max()) for a, b in zip(scores, computed, strict=True)), default=0.0)
    tokenizer = copy.deepcopy(backbone.tokenizer)
    separator, same_text = _template(tokenizer, backbone, groups, rows)
    pad = _pad(tokenizer, backbone.eos_id)
    model = _classifier(reward, weight, tokenizer)
    error, tried = _compare(model, rows, scores, offset, tokenizer.pad_token_id)
    if error > CLOSE:
        raise ModelError(f"the exported model's scores differ from ours by {error:.2g}; nothing was written")
    reads = reward.settings.reward_sees == "assistance"
    about = {"node": node, "offset": offset, "reads_assistance": reads}
    model.config.rrm = about
    done = Exported(offset, error, tried, same_text, pad, fit, rounding)
    own = _readme(node, done, reads, separator, bool(backbone.tokenizer.chat_template))
    with whole_folder(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "README.md").write_text("\n".join(one for one in (card[0], own, card[1]) if one), encoding="utf-8")
    return done


def _comparisons(run: Path, node: str) -> list[Comparison]:
    store = Store(run / "run.db")
    try:
        return store.comparisons(node)
    finally:
        store.close()


def _refit(reward: TextRewardModel, comparisons: Sequence[Comparison], node: str) -> tuple[TextRewardModel, FitReport]:
    """A reward model of the text alone, of the same judgements."""
    changes: dict[str, Any] = {"surprise": False, "findings": False, "reward_sees": "outcome"}
    settings = reward.settings.model_copy(update=changes)
    fork = trunk(reward.backbone, f"{node} reward, text only", "frozen" if reward.frozen else "trained")
    fresh = TextRewardModel(reward.backbone, fork, settings)
    return fresh, fit_reward(fresh, comparisons, settings, f"{node} text only")


def _group(comparison: Comparison) -> Group:
    pair = comparison.pair
    return Group(pair.case, (pair.a, pair.b), (pair.assistance_a, pair.assistance_b))


# --- text --------------------------------------------------------------------------------------------


def _template(
    tokenizer: Any, backbone: Backbone, groups: Sequence[Group], rows: Sequence[PrefixGroup]
) -> tuple[str, int]:
    """Give the tokenizer a chat template that writes [user, assistant] as we do: the prompt rendered for an answer, the
    outcome, and end-of-text twice (its own, and the closing one that is read).

    Returns what stands between prompt and outcome, and for how many outcomes the ids are then the same. (An outcome
    that was cut has only the closing one; one that begins with a blank may be cut into other tokens.)
    """
    original = backbone.tokenizer.chat_template
    eos = backbone.chat.tokens.structural[backbone.eos_id]
    best = ("", -1, "")
    for separator in ("",) if original else ("", " ", "\n"):
        template = _chat(original, eos) if original else _plain(backbone, separator, eos)
        tokenizer.chat_template = template
        same = sum(
            tuple(row.prefix) + tuple(segment) == _ids(tokenizer, group.case.prompt, outcome.shown)
            for group, row in zip(groups, rows, strict=True)
            for outcome, segment in zip(group.outcomes, row.segments, strict=True)
        )
        best = max(best, (separator, same, template), key=lambda found: found[1])
    separator, same, tokenizer.chat_template = best
    return separator, same


def _ids(tokenizer: Any, prompt: str, text: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    return tuple(tokenizer(whole, add_special_tokens=False)["input_ids"])


def _chat(original: str, eos: str) -> str:
    """The model's own template up to the answer; the answer as it is."""
    return (
        "{% if messages[-1]['role'] == 'assistant' %}{% set answer = messages[-1]['content'] %}"
        "{% set messages = messages[:-1] %}{% set add_generation_prompt = true %}{% endif %}"
        f"{original}{{% if answer is defined %}}{{{{ answer }}}}{eos}{eos}{{% endif %}}"
    )


def _plain(backbone: Backbone, separator: str, eos: str) -> str:
    """For a model without a template: what its tokenizer puts in front of a text, the prompt, the answer."""
    start = backbone.tokenizer.bos_token_id
    first = backbone.tokenizer.bos_token if start is not None and backbone.render("x")[0] == start else ""
    return (
        f"{first}{{% for m in messages %}}{{{{ m['content'] }}}}"
        f"{{% if m['role'] == 'assistant' %}}{eos}{eos}{{% else %}}{{{{ {separator!r} }}}}{{% endif %}}{{% endfor %}}"
    )


def _pad(tokenizer: Any, eos: int) -> str:
    """A padding token that is not end-of-text: the tokenizer's own, another special token, or a new one."""
    if tokenizer.pad_token_id in (None, eos):
        others = [t for t in (tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens) if t]
        usable = [t for t in others if tokenizer.convert_tokens_to_ids(t) != eos]
        if usable:
            tokenizer.pad_token = usable[0]
        else:
            tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    return str(tokenizer.pad_token)


# --- weights -----------------------------------------------------------------------------------------


def _classifier(reward: TextRewardModel, weight: Tensor, tokenizer: Any) -> Any:
    """The trunk, with `weight` (d,) as its head."""
    from transformers import AutoModelForSequenceClassification

    network: Any = reward.fork.merged()
    config = copy.deepcopy(network.config)
    config.num_labels, config.id2label, config.label2id = 1, {0: "reward"}, {"reward": 0}
    try:
        model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        model.base_model.load_state_dict(network.base_model.state_dict())
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"transformers has no sequence classifier of {type(network).__name__}: {error}") from error
    if not isinstance(getattr(model, "score", None), nn.Linear) or model.score.bias is not None:
        raise ModelError(f"{type(model).__name__} has no plain linear head `score`; this kind cannot be exported")
    model = model.float()
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        model.score.weight.copy_(weight[None])
    return model.eval()


def _compare(
    model: Any, rows: Sequence[PrefixGroup], scores: Sequence[Tensor], offset: float, pad: int
) -> tuple[float, int]:
    """(largest difference, outcomes): in one batch, padded."""
    ids = [[*row.prefix, *segment] for row in rows for segment in row.segments]
    if not ids:
        return 0.0, 0
    wanted = torch.cat([*scores])
    worst = 0.0
    for start in range(0, len(ids), 8):
        some = ids[start : start + 8]
        width = max(map(len, some))
        batch = torch.tensor([row + [pad] * (width - len(row)) for row in some])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some])
        with torch.no_grad():
            got = model(input_ids=batch, attention_mask=mask).logits[:, 0] + offset
        worst = max(worst, float((got - wanted[start : start + 8]).abs().max()))
    return worst, len(ids)


# --- what the folder says ----------------------------------------------------------------------------


def _readme(node: str, done: Exported, reads: bool, separator: str, chat: bool) -> str:
    return "\n".join(_lines(node, done, reads, separator, chat))


def _lines(node: str, done: Exported, reads: bool, separator: str, chat: bool) -> Iterator[str]:
    how = "the model's chat template" if chat else f"nothing in front, {separator!r} between prompt and answer"
    yield f"# Reward model of `{node}`\n"
    yield "Exported by rrm (recursive reward modeling). `AutoModelForSequenceClassification`, one label, no bias.\n"
    yield f"- rrm's score = logit + {done.offset:.6g}; over {done.tried} outcomes they differed by {done.error:.1g}."
    yield (
        f"- Text: prompt and answer by this folder's own chat template ({how}), then end-of-text twice: the answer's "
        "own, and the closing one, whose position is read. Tokenize it with add_special_tokens=False."
    )
    yield (
        f"- That gives the ids that rrm uses for {done.same_text} of {done.tried} outcomes of the run (the others were "
        "cut before they ended, come with assistance, or are tokenized otherwise at a border)."
    )
    yield f"- Padding is `{done.pad}`, not end-of-text: the classifier reads the last token that is not padding."
    if reads:
        yield "- It was trained to read what assistants said after the answer; without that it is off what it has seen."
    if done.rounding is not None:
        yield f"- {ROUNDED[0].upper()}{ROUNDED[1:]} {done.rounding:.1g}."
    if done.fit is not None:
        yield f"- Fitted anew on {done.fit.n} comparisons, text only: {_told(done.fit)}."
    yield ""
