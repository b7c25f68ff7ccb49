"""Between rrm and TRL: our reward models in its trainers, and reward models that it trained, here.

    trainer = RLOOTrainer(model, reward_funcs=reward_func("runs/mine", "paper/proofs"), ...)
    reward = load_reward("trl-output")          # what RewardTrainer saved: a whole model, or a LoRA adapter

Nothing here imports TRL: a `reward_funcs` entry is a function, and what its RewardTrainer saves is a transformers model
for sequence classification. A folder of that kind out of ours: `rrm.exchange.reward_export`. Our comparisons as its
data: `rrm export`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group, Outcome, trimmed
from rrm.core.settings import Settings
from rrm.loop.reopen import reward_of
from rrm.models.backbone import Backbone
from rrm.models.folders import merge_adapter, read_model, read_tokenizer
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup
from rrm.models.reward import TextRewardModel

RewardFunc = Callable[..., list[float]]
Texts = Sequence[Any]
"""Each a text, or a list of messages with `role` and `content`."""


# --- ours, there -------------------------------------------------------------------------------------


def reward_func(run: Path | str, node: str, caution: float | None = None) -> RewardFunc:
    """An entry for `reward_funcs` of TRL's trainers: the whole reward model of a node, surprise and ensemble included.

    caution: rewards are mean - caution * standard deviation over the ensemble; by default what the node's own agent was
    optimized against (`Settings.caution`).

    Nobody assists: where the reward model was trained with assistance it reads none here, and is farther from what it
    has seen (`reward_sees="outcome"` trains it for that).
    """
    reward = reward_of(run, node)
    return as_reward_func(reward, reward.settings.caution if caution is None else caution, f"rrm_{node}")


def as_reward_func(reward: TextRewardModel, caution: float = 0.0, name: str = "rrm") -> RewardFunc:
    """A loaded reward model as an entry for `reward_funcs`; `name` is what TRL's logs call it.

    The function takes prompts and completions as TRL gives them, texts or messages, and returns one reward each. With
    `completion_ids`, completions whose ids are this model's own keep them: so one that was cut is known as cut. Cases
    with a form (`Case.form`) need it in a column `form` of TRL's dataset, or what the form forces counts as surprising.
    """

    def rewards(
        prompts: Texts, completions: Texts, completion_ids: Any = None, form: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[float]:  # fmt: skip
        ids: Sequence[Any] = [()] * len(completions) if completion_ids is None else completion_ids
        cases: dict[Case, list[int]] = {}
        for i, prompt in enumerate(prompts):
            cases.setdefault(Case(_text(prompt), form=(form[i] or "") if form else ""), []).append(i)
        outcomes = [_outcome(reward.backbone, _text(c), own) for c, own in zip(completions, ids, strict=True)]
        groups = [Group(case, tuple(outcomes[i] for i in at)) for case, at in cases.items()]
        found = [0.0] * len(completions)
        for at, score in zip(cases.values(), reward.score(groups), strict=True):
            for i, value in zip(at, (score.mean - caution * score.std).tolist(), strict=True):
                found[i] = value
        return found

    rewards.__name__ = name
    return rewards


def _outcome(backbone: Backbone, text: str, ids: Sequence[int]) -> Outcome:
    """With its ids if they are this tokenizer's; the end-of-text token may have been cut off with the padding."""
    own = tuple(int(i) for i in ids)
    decoded = backbone.tokenizer.decode(list(own), skip_special_tokens=True) if own else ""  # as TRL does it
    mine = bool(own) and max(own) < backbone.vocabulary and decoded == text
    shown, around = trimmed(text)
    return Outcome(shown, own if mine else (), finished=not mine or own[-1] in backbone.ends, around=around)


def _text(value: Any) -> str:
    """One message is its content; several are a transcript, as `rrm import` makes of them."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return str(value[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in value)


# --- theirs, here ------------------------------------------------------------------------------------


def load_reward(folder: Path | str, chat: bool = False) -> TextRewardModel:
    """What TRL's RewardTrainer saved, as a reward model with one head and no uncertainty.

    It reads exactly the ids that it was trained on, at the position that it was trained at. Scores are its logits.

    Parameters
    ----------
    folder: a model for sequence classification with one label, or a LoRA adapter of one.
    chat: whether its training data were messages, which TRL puts through the chat template; otherwise texts (such as
        `rrm export` writes), to which it adds an end-of-text token.

    Raises `ModelError` if it cannot be loaded, or has no trained head: a head is never made up.
    """
    path = Path(folder)
    adapter = path / "adapter_config.json"
    model = _adapted(path, adapter) if adapter.exists() else _whole(str(path))
    tokenizer = read_tokenizer(str(path), True, str(path), "train again with processing_class given")
    if chat and not tokenizer.chat_template:
        raise ModelError(f"{path}: chat=True, but its tokenizer has no chat template; it was trained on texts")
    backbone = Backbone(str(path), _with_vocabulary(model), tokenizer)
    reward = FromTRL(backbone, backbone.frozen("trl"), model.config.get_text_config().pad_token_id, chat)
    reward.load({"heads.weight": model.score.weight.detach().float(), "norm.shift": torch.zeros(1),
                 "norm.scale": torch.ones(())})  # fmt: skip
    return reward


class FromTRL(TextRewardModel):
    """A reward model that reads what TRL shows its own: see `load_reward`."""

    def __init__(self, backbone: Backbone, fork: Fork, pad: int | None, chat: bool) -> None:
        settings = Settings(heads=1, surprise=False, findings=False, reward_sees="outcome", caution=0.0)
        super().__init__(backbone, fork, settings)
        self.pad, self.chat = pad, chat

    def rows(self, groups: Sequence[Group]) -> list[PrefixGroup]:
        """As `TextRewardModel.rows`, in TRL's ids. What a group's rows have in common is computed once."""
        out = []
        for group in groups:
            rows = [self.ids(group.case, outcome) for outcome in group.outcomes]
            if min(map(len, rows)) < 2:
                raise ModelError(f"a case and outcome of one token together are nothing to read: {group.case.prompt!r}")
            alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
            shared = max(1, min(alike, min(map(len, rows)) - 1))
            out.append(PrefixGroup(rows[0][:shared], [row[shared:] for row in rows]))
        return out

    def ids(self, case: Case, outcome: Outcome) -> tuple[int, ...]:
        """As `RewardTrainer` makes them, up to the token that is read: the last that is not padding. If padding is the
        end-of-text token, that is the one before it."""
        tokenizer = self.backbone.tokenizer
        if self.chat:
            turns = [{"role": "user", "content": case.prompt}, {"role": "assistant", "content": outcome.shown}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = outcome.shown.removesuffix(tokenizer.eos_token) + tokenizer.eos_token
            ids = tokenizer(case.prompt + text)["input_ids"]
        last = max((i for i, token in enumerate(ids) if token != self.pad), default=0)
        return tuple(ids[: last + 1])

    def save(self, path: str | Path) -> None:
        """Raises `ModelError`: it stays in the folder that it was loaded from."""
        raise ModelError(f"a reward model that TRL trained is kept as TRL saved it: copy {self.backbone.name}")


def _whole(where: str) -> Any:
    """A model for sequence classification whose every weight comes from the checkpoint."""
    from transformers import AutoModelForSequenceClassification

    what = f"{where}: no model for sequence classification"
    mend = "give what TRL saved: a reward model with a trained head named `score`"
    model = read_model(AutoModelForSequenceClassification, where, what, mend, attn_implementation="sdpa")
    return _checked(where, model)


def _adapted(path: Path, config: Path) -> Any:
    """The base model with the adapter added in, and the head that was trained with it."""
    from transformers import AutoModelForSequenceClassification

    heads = [key for key in _keys(path / "adapter_model.safetensors") if key.endswith("score.weight")]
    if len(heads) != 1:
        raise ModelError(
            f"{path}: the adapter holds no trained head `score`, without which its scores are noise; train it with "
            'LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"])'
        )
    base = json.loads(config.read_text())["base_model_name_or_path"]
    what = f"{path}: its base model {base!r} cannot be loaded with it"
    mend = "train on a causal language model or a reward model, and name it in base_model_name_or_path"
    model = read_model(
        AutoModelForSequenceClassification, base, what, mend, ("score.weight", "lm_head.weight"), num_labels=1,
        attn_implementation="sdpa",
    )  # fmt: skip
    merged = merge_adapter(model, str(path), True, what, mend)
    with safe_open(str(path / "adapter_model.safetensors"), framework="pt") as file:
        head = file.get_tensor(heads[0])
    model = _checked(str(path), merged)
    if not torch.equal(model.score.weight.float(), head.float()):
        raise ModelError(f"{path}: the head `score` was not loaded from the adapter; PEFT saved it under {heads[0]!r}")
    model.config.get_text_config().pad_token_id = _pad(path)  # PEFT does not keep the model's settings
    return model


def _pad(path: Path) -> int | None:
    """The padding token that TRL gave the model: the tokenizer's, or else its end-of-text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    found: int | None = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return found


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path} ({error}); give what TRL saved") from error


def _checked(where: str, model: Any) -> Any:
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
        raise ModelError(f"{where}: no linear head `score` with one label; give a reward model")
    return model.eval()


def _with_vocabulary(model: Any) -> Any:
    """A causal language model around the trunk. What it says of tokens means nothing: a classifier has no head for
    that, and no reward model without surprise features asks. The input embedding stands in, so nothing is random."""
    from transformers import AutoModelForCausalLM

    causal: Any = AutoModelForCausalLM.from_config(model.config, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    causal.base_model.load_state_dict(model.base_model.state_dict())
    causal.get_output_embeddings().weight.data = causal.get_input_embeddings().weight.data
    return causal
