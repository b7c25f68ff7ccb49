"""The reward model: predicts the user's judgement of an outcome, with its own uncertainty.

It reads `[case | outcome, assistance, end-of-text]` and takes the last token's hidden state. Beside it stand
features of how surprising the outcome is to the frozen starting model, and of how much each assistant called wrong:
inductive biases, said aloud and ablated by `settings.surprise` and `settings.findings`. An ensemble of linear heads
on these features gives a mean and a spread. The trunk is trained with the heads, or frozen
(`settings.reward_trunk`): then its features are computed once.

The assistance is part of the input, so that reward models chain up the tree (Leike et al. 2018, section 3.2):
what an assistant said can move the reward only as far as it moved the user's comparisons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rrm.core.errors import ModelError, RRMError
from rrm.core.records import Group
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.models.agent import allowed_tokens, reference_logprobs, tokens_of
from rrm.models.backbone import Backbone
from rrm.models.features import FINDINGS, SURPRISE, Features, found, read_case, read_packed, surprise
from rrm.models.fork import Fork
from rrm.models.packing import Packed, PrefixGroup, pack, unpack
from rrm.models.weights import check_keys, hash_tensors

FLAT = 0.05
"""Least scale of scores, in logits: a difference of so much is a preference of 51 to 49."""
NOTHING = 1e-4
"""Scores of the fitted outcomes that spread by less than this, in logits, say nothing at all."""
CONSTRAINT = "constraint.weight"
LIMIT = 20.0
"""Scores end here, in standard deviations: an outcome unlike any that was compared is not a thousand times better."""


@dataclass(frozen=True)
class EnsembleScores:
    """The ensemble's judgement of a group's outcomes, in standard deviations of the training outcomes."""

    mean: Tensor  # (n,)
    std: Tensor  # (n,) spread over the heads; 0 with one head
    heads: Tensor  # (n, heads)
    unacceptable: Tensor | None = None
    """(n,) the chance that the user would mark it so, by the constraint; None where none was learned."""


def ensemble(raw: Tensor, shift: Tensor, scale: Tensor, unacceptable: Tensor | None = None) -> EnsembleScores:
    """Scores of raw ones (n, heads): normalized, and within `LIMIT`."""
    heads = ((raw - shift) / scale).clamp(-LIMIT, LIMIT)
    return EnsembleScores(heads.mean(1), heads.std(1, correction=0), heads, unacceptable)


def trunk(backbone: Backbone, name: str, how: Literal["auto", "trained", "frozen"]) -> Fork:
    """The trunk of a reward model, as `settings.reward_trunk` says; "auto" is explained there."""
    if how == "auto":
        how = "frozen" if backbone.device.type == "cpu" else "trained"
    return backbone.fork(name) if how == "trained" else backbone.frozen(name)


class TextRewardModel:
    """A trunk (a fork of the backbone; see `trunk`) and `settings.heads` linear heads.

    Attributes
    ----------
    weight: (heads, features). No bias: comparisons cannot determine one, and Adam would walk it at random.
    assistants: of how many assistants it knows the findings, in their order; 0: it only reads.
    constraint: (heads, features + 1), the last column an offset: the log-odds that an outcome is unacceptable, learned
        of the user's marks from the same features (`rrm.learning.heads.fit_marks`), and apart from the reward. None
        where nothing was marked.
    shift, scale: (heads,), (): normalized score = (raw - shift) / scale, within `LIMIT`; set by `normalize`. Until
        then the model is not fitted and refuses to score.
    """

    def __init__(self, backbone: Backbone, fork: Fork, settings: Settings, assistants: int = 0) -> None:
        self.backbone = backbone
        self.fork = fork
        self.settings = settings
        self.assistants = assistants if settings.findings and settings.reward_sees == "assistance" else 0
        features = backbone.d + (SURPRISE if settings.surprise else 0) + FINDINGS * self.assistants
        # Heads start apart: where the comparisons do not speak, their disagreement should show.
        anchor = torch.randn(settings.heads, features, generator=generator("heads", fork.name))
        self.anchor = anchor  # where `fit_heads` draws them to
        self.frozen = not fork.trainable
        # A frozen trunk's features are kept on the CPU, and its heads with them; else heads are trained with the trunk.
        self.weight = nn.Parameter((anchor / math.sqrt(features)).to("cpu" if self.frozen else backbone.device))
        self.shift = torch.zeros(settings.heads)
        self.scale = torch.ones(())
        self.constraint: Tensor | None = None
        self.fitted = False
        self.cache = Features()  # of a frozen trunk

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
                said = self.backbone.encode(self.said(g, i))
                segments.append((*tokens_of(self.backbone, g.case, outcome), *said, self.backbone.eos_id))
            allowed = allowed_tokens(self.backbone, g) if self.frozen and self.settings.surprise else []
            out.append(PrefixGroup(self.backbone.render(g.case.prompt), segments, allowed))
        return out

    def said(self, group: Group, index: int) -> str:
        """The assistance it reads beside an outcome; empty if it reads the outcome only."""
        sees = self.settings.reward_sees == "assistance"
        return " ".join(a.text for a in group.seen(index)) if sees else ""

    def surprises(self, groups: Sequence[Group]) -> Tensor | None:
        """(outcomes, SURPRISE), counting through the groups in order; None without surprise features."""
        if not self.settings.surprise:
            return None
        values = [surprise(v) for row in reference_logprobs(self.backbone, groups) for v in row]
        return torch.stack(values) if values else torch.empty(0, SURPRISE)

    def findings(self, groups: Sequence[Group]) -> Tensor | None:
        """(outcomes, assistants * FINDINGS), counting through the groups in order; None without assistants."""
        if not self.assistants:
            return None
        self._expect_all(groups)
        values = [found(g.seen(i), self.assistants) for g in groups for i in range(len(g.outcomes))]
        return torch.stack(values) if values else torch.empty(0, self.assistants * FINDINGS)

    def _expect_all(self, groups: Sequence[Group]) -> None:
        """Raise `RRMError` if an outcome was examined by other than all the assistants it knows."""
        counts = {len(g.seen(i)) for g in groups for i in range(len(g.outcomes))}
        wrong = counts - {0, self.assistants}  # 0: judged elsewhere, without assistance
        if wrong:
            raise RRMError(
                f"the reward model {self.fork.name!r} knows {self.assistants} assistants, but an outcome comes with "
                f"the assistance of {wrong.pop()}; let all of the task's assistants examine it, or set findings=false"
            )

    def beside(self, groups: Sequence[Group]) -> Tensor | None:
        """(outcomes, features) that stand beside the hidden state: surprises, then findings; None without any."""
        parts = [part for part in (self.surprises(groups), self.findings(groups)) if part is not None]
        return torch.cat(parts, 1) if parts else None

    def features(self, groups: Sequence[Group], done: Callable[[int, int], None] | None = None) -> list[Tensor]:
        """Per group (n, features) of a frozen trunk, each group computed once as long as it is kept; `done` hears how
        many groups are. Only these groups are kept."""
        version = self.fork.version
        keys = [
            (version, g.case.prompt, g.case.form, tuple((o.id, self.said(g, i)) for i, o in enumerate(g.outcomes)))
            for g in groups
        ]

        def compute(numbers: Sequence[int]) -> list[Tensor]:
            out = []
            for number in numbers:
                g = groups[number]
                own = [len(tokens_of(self.backbone, g.case, outcome)) for outcome in g.outcomes]
                with torch.no_grad():
                    out.append(read_case(self.fork, self.rows([g])[0], own, self.settings.surprise))
                if done is not None:
                    done(number + 1, len(keys))
            return out

        self.cache.keep(set(keys))
        rows = self.cache.of(keys, lambda missing: self.backbone.world.each(missing, compute))
        extra = self.findings(groups)
        if extra is None:
            return rows
        parts = torch.split(extra, [len(g.outcomes) for g in groups])
        return [torch.cat(both, 1) for both in zip(rows, parts, strict=True)]

    def trained_features(self, groups: Sequence[Group]) -> list[Tensor]:
        """Per group (n, features), by the trunk as it is now, without a graph, on the CPU."""
        sizes = [len(g.outcomes) for g in groups]
        first = torch.tensor([0, *sizes]).cumsum(0)
        with torch.no_grad():
            beside = self.beside(groups)
            batches = self.pack(groups)
            rows = [
                self.read(b, None if beside is None else beside[first[b.group] + b.index]).cpu().unbind()
                for b in batches
            ]
        return [torch.stack(row) for row in unpack(batches, rows, sizes)]

    def pack(self, groups: Sequence[Group], whole: bool = False) -> list[Packed]:
        """The packed rows of groups, sized for training if `whole`."""
        rows, budget, masked = self.rows(groups), self.backbone.budget(whole), not self.backbone.spans
        return pack(rows, d=self.backbone.d, budget=budget, whole=whole, masked=masked)

    def raw(self, packed: Packed, beside: Tensor | None) -> Tensor:
        """(segments, heads) scores before normalization, on the CPU; `beside`: see there, (segments, features), in its
        order."""
        features = self.read(packed, beside)
        return (features @ self.weight.T.to(features.device)).cpu()

    def read(self, packed: Packed, beside: Tensor | None) -> Tensor:
        """(segments, features) of a packed row, on the device; `beside` as in `raw`."""
        ends = packed.ends
        features = self.fork.hidden(packed)[packed.row[ends], packed.col[ends]].float()
        return features if beside is None else torch.cat([features, beside.to(features.device)], 1)

    # --- what it says ----------------------------------------------------------------------------

    def score(self, groups: Sequence[Group]) -> list[EnsembleScores]:
        """Normalized scores of every outcome of every group. Raises `RRMError` before the first fit."""
        if not self.fitted:
            raise RRMError(
                f"the reward model {self.fork.name!r} is not fitted, so its scores are noise; "
                "call fit_reward, or load a checkpoint"
            )
        out = []
        n = len(self.weight)
        for values in self._outputs(groups):
            chance = None if self.constraint is None else (values[:, n:] + self.constraint[:, -1]).sigmoid().mean(1)
            out.append(ensemble(values[:, :n], self.shift, self.scale, chance))
        return out

    def raw_scores(self, groups: Sequence[Group]) -> list[Tensor]:
        """Per group (n, heads), before normalization, without a graph."""
        return [values[:, : len(self.weight)] for values in self._outputs(groups)]

    @property
    def _columns(self) -> Tensor:
        """(heads, features) of the reward and, below, of the constraint if there is one."""
        if self.constraint is None:
            return self.weight
        return torch.cat([self.weight, self.constraint[:, :-1].to(self.weight.device)])

    def _outputs(self, groups: Sequence[Group]) -> list[Tensor]:
        """Per group (n, heads) raw scores and, where there is a constraint, as many columns of it before its offset."""
        if self.frozen:
            return self._frozen_scores(groups)
        sizes = [len(g.outcomes) for g in groups]
        first = torch.tensor([0, *sizes]).cumsum(0)
        with torch.no_grad():
            beside = self.beside(groups)

        def compute(numbers: Sequence[int]) -> list[Tensor]:
            starts = first[torch.tensor(numbers, dtype=torch.long)]
            with torch.no_grad():
                batches = self.pack([groups[i] for i in numbers])
                values = []
                for b in batches:
                    features = self.read(b, None if beside is None else beside[starts[b.group] + b.index])
                    values.append((features @ self._columns.T.to(features.device)).cpu().unbind())
            return [torch.stack(row) for row in unpack(batches, values, [sizes[i] for i in numbers])]

        return self.backbone.world.each(range(len(groups)), compute)

    def _frozen_scores(self, groups: Sequence[Group]) -> list[Tensor]:
        """`_outputs` of a frozen trunk: one pass, which also gives the reference's log-probabilities to whoever
        asks for them next (`Backbone.remember`)."""
        if self.assistants:
            self._expect_all(groups)
        memo = {} if self.backbone.reference is None else self.backbone.reference
        out = []
        for g, (scores, logprobs) in zip(groups, self.backbone.world.each(groups, self._read), strict=True):
            out.append(scores)
            for outcome, value in zip(g.outcomes, logprobs, strict=False):  # none without surprise
                memo.setdefault((g.case.id, outcome.id), value)
        return out

    def _read(self, groups: Sequence[Group]) -> list[tuple[Tensor, list[Tensor]]]:
        """Per group: outputs (n, columns) by a frozen trunk, and the outcomes' log-probabilities if it gives them."""
        values = []
        known: dict[tuple[str, str], Tensor] = {}
        with torch.no_grad():
            batches = self.pack(groups)
            for batch in batches:
                shown = [(groups[g], i) for g, i in zip(batch.group.tolist(), batch.index.tolist(), strict=True)]
                own = [len(tokens_of(self.backbone, g.case, g.outcomes[i])) for g, i in shown]
                features, logprobs = read_packed(self.fork, batch, own, self.settings.surprise)
                if self.assistants:
                    findings = torch.stack([found(g.seen(i), self.assistants) for g, i in shown])
                    features = torch.cat([features, findings], 1)
                values.append((features @ self._columns.T).unbind())
                for (g, i), value in zip(shown, logprobs, strict=False):
                    known.setdefault((g.case.id, g.outcomes[i].id), value.clone())
        rows = unpack(batches, values, [len(g.outcomes) for g in groups])
        return [
            (torch.stack(row), [known[g.case.id, o.id] for o in g.outcomes] if known else [])
            for g, row in zip(groups, rows, strict=True)
        ]

    @property
    def ignorant(self) -> bool:
        """Whether its last fit taught it nothing: then every score is 0."""
        return self.fitted and not bool(self.scale.isfinite())

    def normalize(self, raw: Tensor, decided: bool = True) -> bool:
        """Set the constants so that these raw scores (outcomes, heads) get mean 0, and their ensemble mean
        standard deviation 1.

        Each head is shifted by its own mean: comparisons do not determine a head's offset, so a difference
        of offsets is no disagreement. The scale is common, so that a head that is unsure stays flat. Raw scores are
        logits of a preference: where they hardly differ (`FLAT`), nothing was preferred, and it is not blown up.

        Where nothing was `decided` (no comparison it was fitted to has a preference), or where all are scored alike,
        scores would be noise: they are made 0 by an endless scale. Returns whether it has learned something.
        """
        self.shift = raw.mean(0)
        spread = (raw - self.shift).mean(1).std(correction=0)
        learned = decided and bool(spread >= NOTHING)
        self.scale = spread.clamp(min=FLAT) if learned else torch.full_like(spread, math.inf)
        self.fitted = True
        return learned

    # --- storage ---------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """The trunk's trainable parameters and the heads."""
        return [*self.fork.parameters(), self.weight]

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that training changed. Raises `RRMError` before the first fit."""
        if not self.fitted:
            raise RRMError(f"the reward model {self.fork.name!r} is not fitted; there is nothing to save")
        own = {"heads.weight": self.weight, "norm.shift": self.shift, "norm.scale": self.scale}
        if self.constraint is not None:
            own[CONSTRAINT] = self.constraint
        trunk = {f"trunk.{name}": value for name, value in self.fork.state().items()}
        return trunk | {name: value.detach().to("cpu", copy=True) for name, value in own.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set everything that training changes; raises `ModelError` on a missing or unexpected key or shape.

        A head that is missing is never made up: a reward model with random heads looks like a working one.
        """
        own = {"heads.weight": self.weight, "norm.shift": self.shift, "norm.scale": self.scale}
        if CONSTRAINT in state:
            own[CONSTRAINT] = torch.empty(len(self.weight), self.weight.shape[1] + 1)
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
        self.constraint = state[CONSTRAINT].clone() if CONSTRAINT in state else None
        self.fitted = True

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, with the settings and the starting model's fingerprint as metadata."""
        metadata = {
            "settings": self.settings.model_dump_json(), "backbone": self.backbone.fingerprint,
            "assistants": str(self.assistants),
        }  # fmt: skip
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
        trained = any(key.startswith("trunk.") for key in state)
        fork = trunk(backbone, name, "trained" if trained else "frozen")
        model = cls(backbone, fork, settings, int(metadata["assistants"]))
        model.load(state)
        return model

    @property
    def version(self) -> str:
        """Short hash of the weights' bytes, heads and normalization included."""
        own = [("weight", self.weight), ("shift", self.shift), ("scale", self.scale)]
        if self.constraint is not None:
            own.append(("constraint", self.constraint))
        return hash_tensors(own, self.fork.version)
