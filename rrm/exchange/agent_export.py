"""An agent as a folder that transformers, PEFT, TRL and vLLM load as it is: an adapter, or a whole model.

Nothing counts as exported before it was loaded back by PEFT or transformers and gave the log-probabilities that the
agent gives here, of outcomes of its own run. The folder appears whole or not at all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrm.core.errors import ModelError
from rrm.core.records import Group
from rrm.loop.reopen import agent_of
from rrm.models.agent import TextAgent, prefix_groups
from rrm.models.backbone import Backbone
from rrm.models.fetching import resolve
from rrm.models.packing import PrefixGroup
from rrm.models.peft_folder import write_adapter
from rrm.models.vllm_sampler import BOUNDS
from rrm.store.files import refuse_existing, whole_folder
from rrm.store.store import Store

TRIED = 16
"""Comparisons whose outcomes both give log-probabilities of before an export counts as done."""


class NoAdapter(ModelError):
    """An agent that is a whole model, so that nothing of it is an adapter."""


@dataclass(frozen=True)
class ExportedAgent:
    """What became of an export."""

    node: str
    merged: bool
    base: str
    """What the adapter names as its base model; of a whole model what it was trained from."""
    error: float
    """Largest difference of a token's log-probability in the mean over an outcome, in nats, over `tried` outcomes: what
    was written to the agent's weights, both in float32."""
    rounding: float
    """The same of the agent in float32 to the agent as the run computed it."""
    tried: int
    same_text: int
    """For how many of `prompts` the folder's chat template gives the token ids that the agent was trained on."""
    prompts: int
    precision: str
    """What its base model was kept in while it was trained."""
    max_tokens: int
    form: str
    """The form of a case of the run; empty where cases have none."""
    prompt: str
    """A prompt of the run; empty if nothing was judged."""

    def summary(self, folder: Path) -> str:
        """What became of it, in words for the terminal."""
        what = "a whole model" if self.merged else f"a LoRA adapter of {self.base}"
        return (
            f"{folder}: {what}\nchecked on {self.tried} outcomes of the run: log-probabilities differ by "
            f"{self.error:.1g} nats a token at most{self.rounded}; its chat template gives our token ids for "
            f"{self.same_text} of {self.prompts} prompts; see {folder / 'README.md'}"
        )

    @property
    def rounded(self) -> str:
        """What the run's own rounding makes, in words; empty if it computed in float32."""
        if self.precision == "float32":
            return ""
        return f" in float32; the run computed in {self.precision}, which differs from that by {self.rounding:.1g}"


def export_agent(
    run: Path | str, node: str, folder: Path, card: Callable[[ExportedAgent], str], merged: bool = False,
    round: int | None = None, base: str = "",
) -> ExportedAgent:  # fmt: skip
    """Write a node's agent: weights, tokenizer with chat template, generation_config.json that samples as it was
    trained, README.md.

    Raises `NoAdapter` for an agent that is a whole model without `merged`; `RunError` if the folder is there;
    `ModelError` if what was written gives other log-probabilities, or weights of few bits are to be merged; and as
    `agent_of` does.

    Parameters
    ----------
    card: makes the README.md.
    merged: a whole model instead of an adapter. Of a model that computed in bfloat16 it is in float32, the adapter
        added to the starting model's weights before they were rounded: rounded again it would lose some of what was
        trained.
    round: of which; by default the last.
    base: what the adapter names as its base model; by default where the run's starting model is here, which for a
        folder is its path.
    """
    refuse_existing(folder)
    agent = agent_of(run, node, round)
    return write_agent(agent, node, _judged(Path(run), node), folder, card, merged, base)


def write_agent(
    agent: TextAgent, node: str, groups: Sequence[Group], folder: Path, card: Callable[[ExportedAgent], str],
    merged: bool = False, base: str = "",
) -> ExportedAgent:  # fmt: skip
    """As `export_agent`, for a loaded agent, checked on `groups`. With `merged` its backbone cannot be used after."""
    backbone, fork = agent.backbone, agent.fork
    if not merged and (backbone.adapters == "full" or not any("lora_" in name for name in fork.trainable)):
        raise NoAdapter(
            f"the agent of {node!r} is a whole copy of {backbone.name!r} (so small a model is trained whole, without "
            "adapters), so there is no PEFT adapter of it. Export the whole model: --merged"
        )
    free = [Group(replace(group.case, form=""), group.outcomes) for group in groups]
    rows, computed = prefix_groups(backbone, free), agent.logprobs(free)
    exact = _exact(agent, node)
    with torch.no_grad():
        ours = computed if exact is agent else exact.fork.logprobs(rows)
    rounding = _between(computed, ours)
    tokenizer = copy.deepcopy(backbone.tokenizer)
    tokenizer.chat_template = template_of(backbone)
    prompts = {group.case.prompt: None for group in groups}
    same = sum(_ids(tokenizer, prompt) == backbone.render(prompt) for prompt in prompts)
    where, _, _ = resolve(backbone.name)
    start = str(Path(where).resolve()) if Path(where).is_dir() else where
    with whole_folder(folder) as part:
        if merged:
            if backbone.precision.weights not in ("float32", "bfloat16"):
                agent.fork.merged()  # says why it cannot be
            network: Any = exact.fork.merged()
            network.save_pretrained(part)
        else:
            write_adapter(fork, part, base or start)
        tokenizer.save_pretrained(part)
        _generation(agent, tokenizer).save_pretrained(part)
        error, tried = _apart(_reloaded(part, merged, start, backbone), rows, ours, backbone)
        done = ExportedAgent(
            node, merged, base or start, error, rounding, tried, same, len(prompts), backbone.precision.weights,
            agent.max_tokens, next((group.case.form for group in groups if group.case.form), ""),
            next(iter(prompts), ""),
        )  # fmt: skip
        bound = BOUNDS[torch.float32]
        if not error <= bound:
            raise ModelError(
                f"what was exported of {node!r} gives log-probabilities that differ from the agent's by {error:.2g} "
                f"nats a token (at most {bound:g} is expected, in float32); nothing was written"
            )
        (part / "README.md").write_text(card(done), encoding="utf-8")
    return done


def _judged(run: Path, node: str) -> list[Group]:
    """The last judged outcomes of a node."""
    with closing(Store(run / "run.db")) as store:
        pairs = [one.pair for one in store.comparisons(node)[-TRIED:]]
    return [Group(pair.case, (pair.a, pair.b)) for pair in pairs]


# --- text --------------------------------------------------------------------------------------------


def template_of(backbone: Backbone) -> str:
    """A chat template that makes of a user's turn what this backbone makes of a prompt: the model's own, with the
    options of the run set in it; of a model without one, the bare prompt."""
    if backbone.chat.template:
        sets = [f"{{% set {name} = {_literal(value)} %}}" for name, value in backbone.chat.options.items()]
        return "".join(sets) + backbone.chat.template
    tokenizer, end = backbone.tokenizer, backbone.chat.tokens.structural[backbone.eos_id]
    start = tokenizer.bos_token_id
    first = tokenizer.bos_token if start is not None and backbone.render("x")[0] == start else ""
    turn = f"{{{{ m['content'] }}}}{{% if m['role'] == 'assistant' %}}{end}{{% endif %}}"
    return f"{first}{{% for m in messages %}}{turn}{{% endfor %}}"


def _literal(value: Any) -> str:
    """A value as Jinja writes it."""
    return "none" if value is None else json.dumps(value)


def _ids(tokenizer: Any, prompt: str) -> tuple[int, ...]:
    turns = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _generation(agent: TextAgent, tokenizer: Any) -> Any:
    """Sampling as in training, at temperature 1 and from the whole distribution; and where outcomes end."""
    from transformers import GenerationConfig

    make: Any = GenerationConfig
    pad = tokenizer.pad_token_id
    return make(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, eos_token_id=sorted(agent.backbone.ends),
        pad_token_id=agent.backbone.eos_id if pad is None else pad, max_new_tokens=agent.max_tokens,
    )  # fmt: skip


# --- weights -----------------------------------------------------------------------------------------


def _exact(agent: TextAgent, node: str) -> TextAgent:
    """The agent in float32, on the starting model before anything of that was rounded; itself, if nothing was.

    What a run computes in rounds, and two ways of rounding differ by more than a fault in what was written would; so
    that is looked for where nothing is rounded.
    """
    backbone = agent.backbone
    if backbone.precision.weights == "float32":
        return agent
    whole = Backbone.load(backbone.name, "lora", template=backbone.chat.options, precision="float32")
    exact = TextAgent(whole, whole.fork(node), agent.max_tokens)
    exact.load(agent.state())
    return exact


def _between(some: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> float:
    """Largest mean difference of an outcome's log-probabilities."""
    pairs = zip([v for row in some for v in row], [v for row in others for v in row], strict=True)
    return max((float((one - other).abs().mean()) for one, other in pairs), default=0.0)


def _reloaded(part: Path, merged: bool, start: str, backbone: Backbone) -> Any:
    """What was written, as others load it, in float32 on the CPU."""
    from transformers import AutoModelForCausalLM

    where = str(part) if merged else start
    model: Any = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    if not merged:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(part))
    return model.eval()


def _apart(
    model: Any, rows: Sequence[PrefixGroup], ours: Sequence[Sequence[Tensor]], backbone: Backbone
) -> tuple[float, int]:
    """(largest mean difference of an outcome's log-probabilities, outcomes), each outcome in a pass of its own."""
    worst, tried = 0.0, 0
    for row, values in zip(rows, ours, strict=True):
        for segment, wanted in zip(row.segments, values, strict=True):
            ids = torch.tensor([[*row.prefix, *segment]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, len(row.prefix) - 1 : -1].float()
            found = backbone.forms.restrict(logits, None).log_softmax(-1)
            own = found.gather(1, torch.tensor([*segment])[:, None])[:, 0]
            worst = max(worst, float((own - wanted).abs().mean()))
            tried += 1
    return worst, tried


def front_matter(told: Mapping[str, Any]) -> str:
    """What the Hub reads of a card, as YAML; values are texts or lists of texts."""
    lines = ["---"]
    for key, value in told.items():
        if isinstance(value, str):
            lines.append(f"{key}: {json.dumps(value)}")
        else:
            lines += [f"{key}:", *(f"- {json.dumps(one)}" for one in value)]
    return "\n".join([*lines, "---", ""])
