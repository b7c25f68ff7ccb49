"""The reward model: predicts the user's judgement of an outcome, with its own uncertainty.

It reads `[case | outcome, assistance, end-of-text]` and takes the last token's hidden state. Beside it stand
features of how surprising the outcome is to the frozen starting model: an inductive bias, said aloud and
ablated by `settings.surprise`. An ensemble of linear heads on these features gives a mean and a spread.

The assistance is part of the input, so that reward models chain up the tree (Leike et al. 2018, section 3.2):
what an assistant said can move the reward only as far as it moved the user's comparisons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rrm.models.agent import reference_logprobs, tokens_of
from rrm.models.backbone import Backbone, Fork
from rrm.models.checks import ModelError, check_keys, hash_tensors
from rrm.models.pack import Packed, PrefixGroup, pack, unpack
from rrm.seeding import generator
from rrm.settings import Settings
from rrm.task import Group, RRMError

SURPRISE = 4
"""Number of surprise features."""
LOW = -1.2
"""A token with a lower log-probability (nats; p < 0.30) under the starting model counts as surprising."""


@dataclass(frozen=True)
class Scores:
    """The ensemble's judgement of a group's outcomes, in standard deviations of the training outcomes."""

    mean: Tensor  # (n,)
    std: Tensor  # (n,) spread over the heads; 0 with one head
    heads: Tensor  # (n, heads)


def surprise(logprobs: Tensor) -> Tensor:
    """(SURPRISE,) features of an outcome's token log-probabilities under the starting model, each O(1): their
    mean, their minimum, how many are low (as a logarithm), and their sum."""
    low = (logprobs < LOW).sum()
    return torch.stack([logprobs.mean(), logprobs.min() / 4, torch.log1p(low.float()), logprobs.sum() / 32])


class TextRewardModel:
    """A trunk (a fork of the backbone) and `settings.heads` linear heads.

    Attributes
    ----------
    weight: (heads, features). No bias: comparisons cannot determine one, and Adam would walk it at random.
    shift, scale: (heads,), (): normalized score = (raw - shift) / scale; set by `normalize`. Until then
        the model is not fitted and refuses to score.
    """

    def __init__(self, backbone: Backbone, fork: Fork, settings: Settings) -> None:
        self.backbone = backbone
        self.fork = fork
        self.settings = settings
        features = backbone.d + (SURPRISE if settings.surprise else 0)
        # Heads start apart: where the comparisons do not speak, their disagreement should show.
        start = torch.randn(settings.heads, features, generator=generator("heads", fork.name)) / math.sqrt(
            features
        )
        self.weight = nn.Parameter(start)
        self.shift = torch.zeros(settings.heads)
        self.scale = torch.ones(())
        self.fitted = False

    # --- what it reads ---------------------------------------------------------------------------

    def rows(self, groups: Sequence[Group]) -> list[PrefixGroup]:
        """The token ids it reads: per group the case, and per outcome `[outcome, assistance, end-of-text]`.

        The last end-of-text is always added, and is the token that is read: an outcome that ended by itself
        so looks different from one that was cut.
        """
        out = []
        for g in groups:
            segments = []
            for i, outcome in enumerate(g.outcomes):
                said = (
                    " ".join(a.text for a in g.seen(i)) if self.settings.reward_sees == "assistance" else ""
                )
                ids = (*tokens_of(self.backbone, outcome), *self.backbone.encode(said), self.backbone.eos_id)
                segments.append(ids)
            out.append(PrefixGroup(self.backbone.render(g.case.prompt), segments))
        return out

    def surprises(self, groups: Sequence[Group]) -> Tensor | None:
        """(outcomes, SURPRISE), counting through the groups in order; None without surprise features."""
        if not self.settings.surprise:
            return None
        values = [surprise(v) for row in reference_logprobs(self.backbone, groups) for v in row]
        return torch.stack(values) if values else torch.empty(0, SURPRISE)

    def pack(self, groups: Sequence[Group], whole: bool = False) -> list[Packed]:
        """The packed rows of groups, sized for training if `whole`."""
        return pack(self.rows(groups), d=self.backbone.d, budget=self.backbone.budget(whole), whole=whole)

    def raw(self, packed: Packed, surprises: Tensor | None) -> Tensor:
        """(segments, heads) scores before normalization; `surprises`: (segments, SURPRISE), in its order."""
        ends = packed.ends
        features = self.fork.hidden(packed)[packed.row[ends], packed.col[ends]].float()
        if surprises is not None:
            features = torch.cat([features, surprises], 1)
        return features @ self.weight.T

    # --- what it says ----------------------------------------------------------------------------

    def score(self, groups: Sequence[Group]) -> list[Scores]:
        """Normalized scores of every outcome of every group. Raises `RRMError` before the first fit."""
        if not self.fitted:
            raise RRMError(
                f"the reward model {self.fork.name!r} is not fitted, so its scores are noise; "
                "call fit_reward, or load a checkpoint"
            )
        out = []
        for values in self.raw_scores(groups):
            heads = (values - self.shift) / self.scale
            out.append(Scores(heads.mean(1), heads.std(1, correction=0), heads))
        return out

    def raw_scores(self, groups: Sequence[Group]) -> list[Tensor]:
        """Per group (n, heads), before normalization, without a graph."""
        sizes = [len(g.outcomes) for g in groups]
        first = torch.tensor([0, *sizes]).cumsum(0)
        with torch.no_grad():
            surprises = self.surprises(groups)
            batches = self.pack(groups)
            values = [
                self.raw(b, None if surprises is None else surprises[first[b.group] + b.index]).unbind()
                for b in batches
            ]
        return [torch.stack(row) for row in unpack(batches, values, sizes)]

    def normalize(self, raw: Tensor) -> None:
        """Set the constants so that these raw scores (outcomes, heads) get mean 0, and their ensemble mean
        standard deviation 1.

        Each head is shifted by its own mean: comparisons do not determine a head's offset, so a difference
        of offsets is no disagreement. The scale is common, so that a head that is unsure stays flat.
        """
        self.shift = raw.mean(0)
        spread = (raw - self.shift).mean(1).std(correction=0)
        self.scale = spread.clamp(min=1e-6)
        self.fitted = True

    # --- storage ---------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """The trunk's trainable parameters and the heads."""
        return [*self.fork.parameters(), self.weight]

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that training changed. Raises `RRMError` before the first fit."""
        if not self.fitted:
            raise RRMError(f"the reward model {self.fork.name!r} is not fitted; there is nothing to save")
        own = {"heads.weight": self.weight, "norm.shift": self.shift, "norm.scale": self.scale}
        trunk = {f"trunk.{name}": value for name, value in self.fork.state().items()}
        return trunk | {name: value.detach().clone() for name, value in own.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set everything that training changes; raises `ModelError` on a missing or unexpected key or shape.

        A head that is missing is never made up: a reward model with random heads looks like a working one.
        """
        own = {"heads.weight": self.weight, "norm.shift": self.shift, "norm.scale": self.scale}
        expected = [*(f"trunk.{name}" for name in self.fork.trainable), *own]
        check_keys(f"the weights of the reward model {self.fork.name!r}", expected, state)
        for name, value in own.items():
            if value.shape != state[name].shape:
                raise ModelError(
                    f"{name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}: the checkpoint "
                    "was made with other `heads` or `surprise` settings, or another model"
                )
        self.fork.load({name[6:]: value for name, value in state.items() if name.startswith("trunk.")})
        with torch.no_grad():
            self.weight.copy_(state["heads.weight"])
        self.shift, self.scale = state["norm.shift"].clone(), state["norm.scale"].clone()
        self.fitted = True

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, with the settings and the starting model's fingerprint as metadata."""
        metadata = {"settings": self.settings.model_dump_json(), "backbone": self.backbone.fingerprint}
        save_file(self.state(), str(path), metadata=metadata)

    @classmethod
    def load_from(cls, path: str | Path, backbone: Backbone, name: str = "reward") -> TextRewardModel:
        """Read what `save` wrote, into a new fork. Raises `ModelError` if it does not fit the backbone."""
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
            state = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"cannot read the reward model {path}: {error}; give a file written by save()"
            ) from error
        if metadata.get("backbone") != backbone.fingerprint:
            raise ModelError(
                f"{path} was trained on another starting model than {backbone.name!r}; load that model"
            )
        settings = Settings(**json.loads(metadata["settings"]))
        model = cls(backbone, backbone.fork(name), settings)
        model.load(state)
        return model

    @property
    def version(self) -> str:
        """Short hash of the weights' bytes, heads and normalization included."""
        own = [("weight", self.weight), ("shift", self.shift), ("scale", self.scale)]
        return hash_tensors(own, self.fork.version)
