"""One transformers model for a whole tree, and its forks: trainable copies that share its interface.

`Backbone` holds the frozen starting model and its tokenizer. `fork(name)` gives a copy to train: a full
copy of a tiny model, or a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) on the shared weights of a larger
one, so memory grows by an adapter per fork. `start`, the starting model itself, is the reference policy.

Everything runs in evaluation mode: dropout would make a log-probability differ between two passes.

A pass is computed where the model is (`Backbone.device`); ids go in from the CPU, and log-probabilities come out to it,
with their graph. So rewards, losses and everything else outside of a pass is on the CPU, whatever the model is on.
"""

from __future__ import annotations

import copy
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rrm.core.errors import ModelError
from rrm.core.parallel import World, place
from rrm.core.seeding import generator
from rrm.models.architecture import Architecture, own_head, warn_of_experts
from rrm.models.attention import SHORT, materialized
from rrm.models.chat import Chat, stops_of
from rrm.models.fetching import resolve
from rrm.models.folders import Blaming, check_finite, read_pair
from rrm.models.form import Forms
from rrm.models.guard import alone
from rrm.models.packing import Packed, PrefixGroup, pack, unpack
from rrm.models.precision import Precision
from rrm.models.trial import try_out
from rrm.models.verification import Engine, verify
from rrm.models.weights import check_keys, hash_tensors

TINY = 20_000_000
"""Below this many parameters `adapters="auto"` copies the whole model for each fork."""
LOGITS = 1 << 24
"""Most logits (tokens * vocabulary) held at once; more come in parts, and again in the backward pass."""
RANK = 16
"""Rank of the LoRA adapters."""


class Fork:
    """A policy's weights behind a small interface; `Backbone` makes them.

    Attributes
    ----------
    network: the transformers causal language model that computes; shared between LoRA forks.
    trainable: name -> parameter: what training changes and `state` stores. Empty for the starting model.
    """

    def __init__(
        self,
        backbone: Backbone,
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

    def run(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Any = None) -> Tensor:
        """Final hidden states (rows, length, d) on the model's device, without lm_head.

        Parameters
        ----------
        ids, positions: (rows, length).
        mask: (rows, 1, length, keys) additive float, or None for plain causal attention.
        cache: a transformers `Cache` to read and extend, or None.
        """
        trunk, device = self._trunk(cache is None), self.backbone.device
        mask = None if mask is None else mask.to(device, self.backbone.precision.dtype)
        masks = self.backbone.architecture.masks(mask, positions)
        config = self.network.config.get_text_config()  # type: ignore[union-attr, operator]
        with self.exclusive(), materialized(config, self._materializes(mask, cache)):
            out = trunk(
                input_ids=ids.to(device),
                attention_mask=masks,
                position_ids=positions.to(device),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        hidden: Tensor = out.last_hidden_state.float()
        return hidden

    def _materializes(self, mask: Tensor | None, cache: Any) -> bool:
        """Whether packed rows are faster with their attention weights written out: short ones in bfloat16 are."""
        if mask is None or cache is not None or mask.dtype != torch.bfloat16 or self.backbone.compile:
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
        return self.run(packed.ids, packed.positions, packed.mask)

    def logits_at(self, hidden: Tensor) -> Tensor:
        """The model's head on chosen hidden states: (tokens, d) -> (tokens, vocabulary)."""
        with self.exclusive():
            if self.backbone.engine.head:
                return own_head(self.network, hidden)
            logits: Tensor = self.network.get_output_embeddings()(hidden)  # type: ignore[operator]
        return logits

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within it the network computes as this fork. Raises `ModelError` if another thread is in a pass through the
        same network: it would compute as this fork, too, without anybody noticing."""
        shared = self.network is self.backbone.model
        with alone(self.backbone.passing if shared else self._passing, f"the fork {self.name!r}"):
            if shared:
                self.backbone.switch(self)
            yield

    def token_logprobs(self, packed: Packed, hidden: Tensor | None = None) -> Tensor:
        """(tokens,) log-probability, in nats, of each segment token of the packed rows.

        Logits exist only where a segment token is predicted, and never more than `LOGITS` of them at once:
        for a small model with a large vocabulary they, not the weights, fill the memory.
        """
        hidden = self.hidden(packed) if hidden is None else hidden
        return self.logprobs_at(hidden[packed.row, packed.source], packed.targets, packed.allowed)

    def logprobs_at(self, at: Tensor, targets: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(tokens,) log-probability of each target, given the hidden state (tokens, d) that predicts it, and what its
        form allows there (tokens,); on the CPU."""
        size = max(1, LOGITS // self.backbone.vocabulary)
        targets = targets.to(at.device)
        if len(targets) <= size:
            return self._logprobs(at, targets, allowed).cpu()
        hidden, wanted = torch.split(at, size), torch.split(targets, size)
        limits = [None] * len(wanted) if allowed is None else [*torch.split(allowed, size)]
        parts = zip(hidden, wanted, limits, strict=True)
        if torch.is_grad_enabled():
            return torch.cat([checkpoint(self._logprobs, *part, use_reentrant=False) for part in parts]).cpu()
        return torch.cat([self._logprobs(*part) for part in parts]).cpu()

    def _logprobs(self, hidden: Tensor, targets: Tensor, allowed: Tensor | None) -> Tensor:
        logits = self.backbone.forms.restrict(self.logits_at(hidden).float(), allowed)
        return -nn.functional.cross_entropy(logits, targets, reduction="none")

    def logprobs(self, groups: Sequence[PrefixGroup], width: int | None = None) -> list[list[Tensor]]:
        """Per group, per segment: (length,) log-probabilities of the segment's tokens given the prefix.

        `width`: segments per row; by default whatever is cheapest.
        """
        budget = self.backbone.budget(torch.is_grad_enabled())
        batches = pack(groups, d=self.backbone.d, budget=budget, width=width)
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
        with torch.no_grad():
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
            named = [] if precision == Precision() else [precision.weights]
            digest = hash_tensors([*self.trainable.items()], self.backbone.fingerprint, *named)
            self._version = (stamp, digest)
        return self._version[1]

    def merged(self) -> nn.Module:
        """The whole network with this fork's weights in it, for use elsewhere.

        An adapter is added into the shared weights: nothing of this backbone can be used afterwards.
        """
        if self._adapter is None:
            return self.network
        with self.exclusive():
            merged: nn.Module = self.backbone._peft.merge_and_unload(adapter_names=[self._adapter])
        return merged

    def close(self) -> None:
        """Free the weights of this fork; it cannot be used afterwards."""
        self.backbone.release(self)


class Backbone:
    """The starting model and its tokenizer, verified (`rrm.models.verification`). Make one with `Backbone.load`."""

    def __init__(
        self, name: str, model: Any, tokenizer: Any, adapters: Literal["auto", "full", "lora"] = "auto",
        template: Mapping[str, Any] | None = None, verified: bool = True,
    ) -> None:  # fmt: skip
        self.name = name
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self.architecture = read = Architecture.of(name, self.model)
        self.d, self.layers, self.vocabulary = read.d, read.layers, read.vocabulary
        self._weights = sorted(model.named_parameters())
        self.size = sum(p.numel() for _, p in self._weights)
        self._precision = Precision()
        self.compile = False
        self.adapters = ("full" if self.size < TINY else "lora") if adapters == "auto" else adapters
        self._peft: Any = None
        self._on: str | None = None  # the adapter that is switched on
        self.passing = threading.RLock()  # held during a pass through the shared network
        self._count = 0
        self.world = World()  # whom the computing is shared with; `rrm.train` asks who there is
        self._rendered: dict[str, tuple[int, ...]] = {}
        self.reference: dict[tuple[str, str], Tensor] | None = None  # see `remember`
        self.start = Fork(self, "start", self.model, {}, None)
        self.chat = Chat(name, tokenizer, template or {}, stops_of(model, tokenizer), self.vocabulary)
        self.eos_id, self.ends = self.chat.eos_id, self.chat.ends
        self.forms = Forms(name, self.chat.tokens, self.vocabulary, self.eos_id)
        if verified:
            check_finite(f"the model {name!r}", self._weights, "its weights are broken: load others")
            self.engine: Engine = verify(self)
            self.architecture = self.architecture.bounded(self.engine.windows)
            self._try_out()

    @classmethod
    def load(
        cls,
        name: str = "embedded",
        adapters: Literal["auto", "full", "lora"] = "auto",
        compile: bool = False,
        device: str = "auto",
        template: Mapping[str, Any] | None = None,
    ) -> Backbone:
        """Load a transformers causal language model: "embedded", "embedded-chip" or "embedded-games", "smollm2" once it
        was fetched (`rrm.models.fetching`), a folder, or a name on the Hub.

        `compile`: torch.compile the passes over whole sequences; it takes minutes before it saves any time.
        `device`: as torch names it; "auto" is the first CUDA device where there is one and the model is not tiny (it
        would wait for the launches of its kernels), else the CPU.
        `template`: variables for its chat template, such as {"enable_thinking": False}.

        A folder that holds only a PEFT adapter is its base model with the adapter merged in.

        Raises `ModelError` if it cannot be loaded, is not whole, cannot score packed groups exactly, or fails to sample
        or train.
        """
        model, tokenizer = read_pair(name, *resolve(name))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() and model.num_parameters() >= TINY else "cpu"
        if device == "cuda" and torch.cuda.is_available():
            device = f"cuda:{place()[0] % torch.cuda.device_count()}"  # each process on this machine has its own
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's ways of saying that there is none
            raise ModelError(f"cannot put {name!r} on the device {device!r}: {error}; use device='cpu'") from error
        backbone = cls(name, model, tokenizer, adapters, template)
        backbone.compile = compile
        return backbone

    groups_attention = property(lambda self: self.engine.groups, doc="Whether it decodes case by case.")
    limit = property(lambda self: self.architecture.limit, doc="Longest sequence in tokens.")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = self._weights[0][1].device
        return device

    @property
    def precision(self) -> Precision:
        """float32, until a probe says otherwise (`Run.configure`). Set it before anything is computed.

        bfloat16: the frozen weights are rounded once, which halves their memory. The output embedding (often the
        input's, too) and the adapters stay float32, as do logits, log-probabilities, heads and losses. Raises
        `ModelError` for a model that is fully fine-tuned, for going back (what was rounded is gone), and if the model
        cannot sample or train so.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        if precision == self._precision:
            return
        if self._precision.dtype == torch.bfloat16:
            raise ModelError(f"the weights of {self.name!r} were rounded to bfloat16; load the model again for float32")
        if self.adapters == "full":
            raise ModelError(f"{self.name!r} is fully fine-tuned, which is done in float32; use adapters='lora'")
        _ = self.fingerprint  # of the weights as they were loaded
        output = {*map(id, self.model.get_output_embeddings().parameters())}
        for name, parameter in self.model.named_parameters():
            if "lora_" not in name and id(parameter) not in output:
                parameter.data = parameter.data.to(precision.dtype)
        # A float32 embedding would make float32 of everything after it.
        self.model.get_input_embeddings().register_forward_hook(lambda module, ids, out: out.to(precision.dtype))
        self._precision = precision
        self._try_out()

    # --- text ------------------------------------------------------------------------------------

    def render(self, prompt: str) -> tuple[int, ...]:
        """A prompt's token ids, for training and for use alike: the only place where prompts become ids.

        With a chat template: the prompt as the user's turn, and the opening of the assistant's. Without:
        the tokenizer's own special tokens, minus a trailing end-of-text.
        """
        known = self._rendered.get(prompt)
        if known is None:
            if len(self._rendered) > 8192:
                self._rendered.clear()
            known = self._rendered[prompt] = self.chat.render(prompt)
        return known

    def encode(self, text: str, prompt: str | None = None) -> tuple[int, ...]:
        """The token ids of a text right after a rendered prompt, or, without one, after an outcome that has ended; none
        of them is special, whatever the text spells out. See `Tokens.after`."""
        return self.chat.tokens.after(self._end if prompt is None else self.chat.before(prompt), text)

    def decode(self, ids: Sequence[int], prompt: str | None = None) -> str:
        """The text that token ids add to a rendered prompt, its first blanks and all; without a prompt, alone. Special
        tokens are spelled out: nothing that was sampled is hidden."""
        if prompt is None:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
        return self.chat.tokens.text(self.chat.before(prompt), ids)

    @property
    def _end(self) -> str:
        return self.chat.tokens.structural[self.eos_id]

    @property
    def prompts(self) -> dict[str, Any]:
        """What becomes of a prompt and of a text; see `Chat.fingerprint`."""
        return self.chat.fingerprint()

    # --- sizes -----------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of the starting weights."""
        return hash_tensors(self._weights)

    def budget(self, training: bool) -> int:
        """Cells (rows * length) per forward pass: activations stay below some 1.5 GB in training, and near
        the processor's caches (larger passes were slower for tiny models)."""
        # Bytes of activations that the backward pass needs, per token. For 135 M parameters: 512 cells in float32,
        # where 1024 and 2048 gained 7 and 4 percent, and 1086 in bfloat16, where they gained 8 and 6.
        kept = self.layers * self.d * self.precision.dtype.itemsize * 40
        return max(512, min(4096, int(1.5e9 / kept))) if training else 4096

    def check_length(self, length: int) -> None:
        """Raise `ModelError` if a sequence is longer than the model's context."""
        if length > self.limit:
            raise ModelError(
                f"a sequence of {length} tokens exceeds the context of {self.name!r} ({self.limit}: "
                f"{self.architecture.why}); shorten the case, lower max_tokens, or use a model with a longer context"
            )

    @contextmanager
    def remember(self) -> Iterator[None]:
        """Within it, `reference_logprobs` computes each outcome once.

        Bounded to one fit or one improvement, which a resumed run repeats whole: the last bits of a number
        depend on what shared its pass, so a memory that outlived a restart would show.
        """
        outer = self.reference
        self.reference = {} if outer is None else outer
        try:
            yield
        finally:
            self.reference = outer

    # --- forks -----------------------------------------------------------------------------------

    def fork(self, name: str) -> Fork:
        """A trainable copy of the starting model. `name` is for people, and seeds LoRA's random weights."""
        if self.adapters == "full":
            network = copy.deepcopy(self.model)
            network.requires_grad_(True)
            return Fork(self, name, network, dict(network.named_parameters()), None)
        with alone(self.passing, f"making the fork {name!r}"):
            return self._adapted(name)

    def _adapted(self, name: str) -> Fork:
        self._count += 1
        adapter = f"fork{self._count}"
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # PEFT warns of a second adapter and of Conv1D; both are meant
            self._add_adapter(adapter)
        if self._count == 1:
            warn_of_experts(self.name, self.model)
        trainable: dict[str, nn.Parameter] = {}
        for key, parameter in self.model.named_parameters():
            if f".{adapter}." in key:
                short = key.replace(f".{adapter}.", ".")
                trainable[short] = parameter
                if "lora_A" in key:  # PEFT drew it from the global stream; draw it from a named one
                    drawn = torch.empty(parameter.shape)  # on the CPU: the same on every device
                    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator("lora", name, short))
                    parameter.data.copy_(drawn)
        fork = Fork(self, name, self.model, trainable, adapter)
        self._on = None  # whatever was on: PEFT has frozen the others, and leaves adapters off that were off
        self.switch(fork)
        return fork

    def _try_out(self) -> None:
        """A trial on a fork that leaves no trace."""
        with Blaming(f"{self.name!r} ({type(self.model).__name__}) cannot be adapted", "use another model"):
            fork = self.fork("trial")
        try:
            try_out(fork)
        finally:
            fork.close()

    def frozen(self, name: str) -> Fork:
        """The starting model under a name of its own: a fork that trains nothing and takes no memory."""
        return Fork(self, name, self.model, {}, None)

    def _add_adapter(self, adapter: str) -> None:
        from peft import LoraConfig, get_peft_model

        from rrm.models.adapter import AdaptedLinear

        if self._peft is None:
            config = LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            config._register_custom_module({nn.Linear: AdaptedLinear})
            self._peft = get_peft_model(self.model, config, adapter_name=adapter)
        else:
            self._peft.add_adapter(adapter, copy.deepcopy(next(iter(self._peft.peft_config.values()))))
            self._peft.set_adapter(adapter)

    def switch(self, fork: Fork) -> None:
        """Make the shared network compute as `fork`; nothing to do for full copies."""
        if self._peft is None or self._on == fork._adapter or fork.network is not self.model:
            return
        if fork._adapter is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            if self._on is None:
                self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(fork._adapter)
        # PEFT freezes the adapters that are off; autograd would then drop the gradients of a graph that was
        # built while they were on.
        for key, parameter in self.model.named_parameters():
            if "lora_" in key:
                parameter.requires_grad_(True)
        self._on = fork._adapter

    def release(self, fork: Fork) -> None:
        """Free a fork's weights."""
        if fork is self.start:
            raise ModelError("the starting model cannot be closed")
        if fork._adapter is not None:
            with alone(self.passing, f"closing the fork {fork.name!r}"), warnings.catch_warnings():
                self.switch(self.start)
                warnings.simplefilter("ignore")  # PEFT says which adapter is next; none is on
                self._drop_adapter(fork._adapter)
        fork.trainable = {}
        fork.network = nn.Module()

    def _drop_adapter(self, adapter: str) -> None:
        if len(self._peft.peft_config) > 1:
            self._peft.delete_adapter(adapter)
        else:
            self.model = self._peft.unload()
            self._peft = None
