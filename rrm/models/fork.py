"""A policy over one network: its weights, and what they make of token ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rrm.core.errors import ModelError
from rrm.models.architecture import own_head
from rrm.models.attention import LONG, SHORT, flexible, materialized, spanning
from rrm.models.folders import check_finite
from rrm.models.fusing import turning
from rrm.models.guard import alone
from rrm.models.head import TOP, chosen_logprobs, rough, sharpened, widens
from rrm.models.interface import Trunk
from rrm.models.packing import Packed, PrefixGroup, pack, unpack
from rrm.models.parking import Stay
from rrm.models.prepacked import is_prepacked
from rrm.models.recomputing import recomputed
from rrm.models.repeating import repeatable
from rrm.models.root_mean import norms_of, one_operation
from rrm.models.sending import sent
from rrm.models.slopes import sloped_logprobs
from rrm.models.spans import Spans, marked
from rrm.models.visibility import Visibility
from rrm.models.weights import check_keys, hash_tensors


class Fork:
    """A policy's weights behind a small interface; `Backbone` makes them.

    Attributes
    ----------
    network: the transformers causal language model that computes; shared between LoRA forks.
    trainable: name -> parameter: what training changes and `state` stores. Empty for the starting model. On the model's
        device during a pass and in a training; else they may wait on the CPU (`rrm.models.parking`).
    """

    def __init__(
        self,
        backbone: Trunk,
        name: str,
        network: nn.Module,
        trainable: dict[str, nn.Parameter],
        adapter: str | None,
    ) -> None:
        self.backbone = backbone
        self.name = name
        self.network = network
        self.trainable = trainable
        self._adapter = adapter
        self._version: tuple[object, str] | None = None
        self._compiled: Callable[..., Any] | None = None
        self._passing = threading.RLock()  # of a network of its own
        self.stay = Stay()
        backbone.parking.add(self)

    def run(self, ids: Tensor, positions: Tensor, mask: Tensor | Visibility | None, cache: Any = None) -> Tensor:
        """Final hidden states (rows, length, d) on the model's device, without lm_head.

        Parameters
        ----------
        ids, positions: (rows, length).
        mask: (rows, 1, length, keys) additive float, or who sees whom, or None for plain causal attention.
        cache: a transformers `Cache` to read and extend, or None.
        """
        trunk, device = self._trunk(cache is None), self.backbone.device
        config = self.network.config.get_text_config()  # type: ignore[union-attr, operator]
        through: Callable[[], AbstractContextManager[None]]
        spans = Spans.of(mask, device) if isinstance(mask, Visibility) and self.backbone.spans else None
        if spans is not None:
            masks, through = marked(spans), partial(spanning, config)
        elif isinstance(mask, Visibility) and self._flexes(mask):
            masks = self.backbone.architecture.blocks(mask, positions, device)
            through = partial(flexible, config)
        else:
            mask = mask.dense(device) if isinstance(mask, Visibility) else mask
            mask = None if mask is None else mask.to(device, self.backbone.precision.dtype)
            masks = self.backbone.architecture.masks(mask, positions)
            through = partial(materialized, config, self._materializes(mask, cache))

        learning = cache is None and torch.is_grad_enabled()
        there = device.type == "cuda"
        turned = self.backbone.turned if there and self.network is self.backbone.model else None
        norms = self._norms if learning else []

        @contextmanager
        def computing() -> Iterator[None]:
            with self.exclusive(), through():
                if there:
                    with turning(turned), repeatable(device, learning):
                        yield
                elif norms:
                    with one_operation(norms):
                        yield
                else:  # a tiny model's pass takes less than entering what does nothing
                    yield

        frugal = learning and ids.numel() > self.backbone.capacity.keeping and not self.backbone.compile
        with computing(), recomputed(self.network, computing) if frugal else nullcontext():
            out = trunk(
                input_ids=sent(ids, device),
                attention_mask=masks,
                position_ids=sent(positions, device),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        hidden: Tensor = out.last_hidden_state.float()
        return hidden

    @cached_property
    def _norms(self) -> list[tuple[nn.Module, float]]:
        """The norms that a training pass computes as one operation each: on a processor, below an adapter."""
        plain = self._adapter is None or self.backbone.compile or self.backbone.convoy is not None
        return [] if plain or self.backbone.device.type != "cpu" else norms_of(self.network)

    def _flexes(self, visibility: Visibility) -> bool:
        """Whether long packed rows go through flex attention: on a GPU on which it was seen to be right."""
        return visibility.owner.shape[1] >= LONG and self.backbone.flexes

    def _materializes(self, mask: Tensor | None, cache: Any) -> bool:
        """Whether packed rows are faster with their attention weights written out: short ones in bfloat16 are."""
        if mask is None or cache is not None or mask.dtype != torch.bfloat16 or self.backbone.compile:
            return False
        if mask.is_cuda:  # a GPU's fused kernels are not slow at anything
            return False
        return self.backbone.engine.groups and mask.shape[-1] <= SHORT

    def _trunk(self, whole: bool) -> Callable[..., Any]:
        """The model below lm_head; compiled, if that was asked for, for `whole` sequences (not for decoding)."""
        trunk: Callable[..., Any] = self.network.base_model  # type: ignore[assignment]
        if not (whole and self.backbone.compile):
            return trunk
        if self._compiled is None:
            self._compiled = torch.compile(trunk, dynamic=True)
        return self._compiled

    def hidden(self, packed: Packed) -> Tensor:
        """Final hidden states (rows, length, d) of packed rows."""
        self.backbone.check_length(packed.longest)
        return self.run(packed.ids, packed.positions, packed.visibility)

    def logits_at(self, hidden: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The model's head on chosen hidden states: (tokens, d) -> (tokens, vocabulary) in float32, -inf where a token
        stands for nothing or a form does not allow it. allowed: (tokens,) numbers of the forms' masks."""
        with self.exclusive():
            if self.backbone.engine.head:
                return self.backbone.forms.restrict(own_head(self.network, hidden).float(), allowed)
            head: Any = self.network.get_output_embeddings()  # type: ignore[operator]
            if self.backbone.precision.head == "float32":
                return self.backbone.forms.restrict(head(hidden).float(), allowed)
            blocks = is_prepacked(head) and not torch.is_grad_enabled()
            logits = self.backbone.forms.restrict(head(hidden).float() if blocks else rough(head, hidden), allowed)
            return logits if self._fuses(hidden) else sharpened(head, hidden, logits)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within it the network computes as this fork. Raises `ModelError` if another thread is in a pass through the
        same network: it would compute as this fork, too, without anybody noticing."""
        shared = self.network is self.backbone.model
        with alone(self.backbone.passing if shared else self._passing, f"the fork {self.name!r}"):
            self.backbone.parking.enter(self)
            try:
                if shared:
                    self.backbone.switch(self)
                yield
            finally:
                self.backbone.parking.leave(self)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it its weights stay on the device; whoever trains them says so. Afterwards no earlier pass's gradient
        may be asked for, those that were found are gone, also of a training that broke off, and the weights may wait on
        the CPU until they are used."""
        self.stay.trainings += 1
        try:
            self.backbone.parking.bring(self)
            yield
        finally:
            self.stay.trainings -= 1
            if not self.stay.trainings:
                self.stay.graph = False
                for parameter in self.trainable.values():
                    parameter.grad = None

    def token_logprobs(self, packed: Packed, hidden: Tensor | None = None) -> Tensor:
        """(tokens,) log-probability, in nats, of each segment token of the packed rows.

        Logits exist only where a segment token is predicted, and never more than `Capacity.logits` of them at once:
        for a small model with a large vocabulary they, not the weights, fill the memory.
        """
        hidden = self.hidden(packed) if hidden is None else hidden
        where = (sent(index, hidden.device) for index in (packed.row, packed.source))
        return self.logprobs_at(hidden[*where], packed.targets, packed.allowed)

    def logprobs_at(self, at: Tensor, targets: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(tokens,) log-probability of each target, given the hidden state (tokens, d) that predicts it, and what its
        form allows there (tokens,); on the CPU."""
        fused = self._fuses(at)
        weights = TOP * self.backbone.d if self.backbone.precision.head == "bfloat16" and not fused else 0
        size = max(1, self.backbone.capacity.logits // max(self.backbone.vocabulary, weights))
        targets = sent(targets, at.device)
        if len(targets) <= size:
            return self._logprobs(at, targets, allowed).cpu()
        hidden, wanted = torch.split(at, size), torch.split(targets, size)
        limits = [None] * len(wanted) if allowed is None else [*torch.split(allowed, size)]
        parts = zip(hidden, wanted, limits, strict=True)
        if torch.is_grad_enabled() and not (fused or self._slopes()):  # those keep no logits anyway
            return torch.cat([checkpoint(self._logprobs, *part, use_reentrant=False) for part in parts]).cpu()
        return torch.cat([self._logprobs(*part) for part in parts]).cpu()

    def _fuses(self, hidden: Tensor) -> bool:
        """Whether the head's products of bfloat16 are exact here (`widens`), and all there is to it."""
        return self.backbone.precision.head == "bfloat16" and not self.backbone.engine.head and widens(hidden)

    def _slopes(self) -> bool:
        """Whether the slopes of log-probabilities are found with them: the head is in bfloat16, and so frozen."""
        return self.backbone.precision.head == "bfloat16" and not self.backbone.engine.head

    def _logprobs(self, hidden: Tensor, targets: Tensor, allowed: Tensor | None) -> Tensor:
        if self._slopes():
            head: Any = self.network.get_output_embeddings()  # type: ignore[operator]
            chosen = chosen_logprobs if self._fuses(hidden) else sloped_logprobs
            with self.exclusive():
                return chosen(head, hidden, targets, partial(self.backbone.forms.restrict, allowed=allowed))
        return -nn.functional.cross_entropy(self.logits_at(hidden, allowed), targets, reduction="none")

    def logprobs(self, groups: Sequence[PrefixGroup], width: int | None = None) -> list[list[Tensor]]:
        """Per group, per segment: (length,) log-probabilities of the segment's tokens given the prefix.

        `width`: segments per row; by default whatever is cheapest.
        """
        budget = self.backbone.budget(torch.is_grad_enabled())
        batches = pack(groups, d=self.backbone.d, budget=budget, width=width, masked=not self.backbone.spans)
        values = [torch.split(self.token_logprobs(b), b.lengths.tolist()) for b in batches]
        return unpack(batches, values, [len(g.segments) for g in groups])

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        return list(self.trainable.values())

    def state(self) -> dict[str, Tensor]:
        """A copy of the trainable weights, by name, on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self.trainable.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the trainable weights; raises `ModelError` on a missing or unexpected key, a wrong shape, or NaN."""
        check_keys(f"the weights of fork {self.name!r}", self.trainable, state)
        check_finite(f"the weights of fork {self.name!r}", state.items(), "take an earlier checkpoint")
        with torch.no_grad(), self.backbone.parking.lock:
            for name, parameter in self.trainable.items():
                if parameter.shape != state[name].shape:
                    raise ModelError(
                        f"{name} of fork {self.name!r} has shape {tuple(state[name].shape)}, not "
                        f"{tuple(parameter.shape)}; the checkpoint belongs to another model"
                    )
                parameter.copy_(state[name])

    @property
    def version(self) -> str:
        """Short hash of the weights' bytes and their precision; computed again only after they changed in place."""
        precision = self.backbone.precision
        stamp = (precision, sum(p._version for p in self.trainable.values()))
        if self._version is None or self._version[0] != stamp:
            named = [one for one in (precision.weights, precision.head) if one != "float32"]
            digest = hash_tensors([*self.trainable.items()], self.backbone.fingerprint, *named)
            self._version = (stamp, digest)
        return self._version[1]

    def merged(self) -> nn.Module:
        """The whole network with this fork's weights in it, for use elsewhere.

        An adapter is added into the shared weights: nothing of this backbone can be used afterwards.
        """
        if self.backbone.convoy is not None:
            raise ModelError(
                f"no process holds the weights of {self.backbone.name!r} whole; load the model without shard, and this "
                "fork's state into a fork of it"
            )
        self.stay.trainings += 1  # whoever has the network computes with it as they like
        with self.exclusive():
            return self.network if self._adapter is None else self.backbone.merge(self._adapter)

    def close(self) -> None:
        """Free the weights of this fork; it cannot be used afterwards."""
        self.backbone.release(self)
