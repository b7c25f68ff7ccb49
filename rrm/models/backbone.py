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
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rrm.core.errors import ContextError, ModelError
from rrm.core.parallel import World, join, place
from rrm.core.seeding import generator
from rrm.models.adapters import Adapters
from rrm.models.architecture import Architecture, warn_of_experts
from rrm.models.capacity import Capacity, capacity_of, free_memory
from rrm.models.chat import Chat, stops_of
from rrm.models.convoy import Convoy, arranged
from rrm.models.fetching import resolve
from rrm.models.folders import Blaming, check_finite, read_pair
from rrm.models.fork import Fork
from rrm.models.form import Forms
from rrm.models.fusing import Fusion
from rrm.models.guard import alone
from rrm.models.head import pays
from rrm.models.parking import Parking
from rrm.models.precision import Precision
from rrm.models.quantizing import KINDS, QuantizedLinear, numbers, quantize
from rrm.models.room import available_memory
from rrm.models.sampling import Sampler
from rrm.models.trial import try_out
from rrm.models.verification import Engine, verify
from rrm.models.weights import sha256_of

TINY = 20_000_000
"""Below this many parameters `adapters="auto"` copies the whole model for each fork."""
Asked = Literal["auto", "float32", "bfloat16", "int8", "nf4"]
"""What a model is to compute in."""
def way(parameters: int) -> Literal["full", "lora"]:
    """How `adapters="auto"` trains a model of so many parameters."""
    return "full" if parameters < TINY else "lora"


class Backbone:
    """The starting model and its tokenizer, verified (`rrm.models.verification`). Make one with `Backbone.load`."""

    def __init__(
        self, name: str, model: Any, tokenizer: Any, adapters: Literal["auto", "full", "lora"] = "auto",
        template: Mapping[str, Any] | None = None, verified: bool = True, named: str | None = None,
        shared: tuple[Precision, torch.device] | None = None,
    ) -> None:  # fmt: skip
        self.name, self._named = name, named
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self.architecture = read = Architecture.of(name, self.model)
        self.d, self.layers, self.vocabulary = read.d, read.layers, read.vocabulary
        self._weights = sorted(model.named_parameters())
        self.size = numbers(model)
        self.asked: Asked = "auto"
        """What it is to compute in; see `load`."""
        self.rates: Mapping[str, float] | None = None
        """Learning rates, unless they are set, as a run decided them (`rrm.learning.rates`)."""
        self._whole = model.dtype == torch.bfloat16
        """Whether its weights were saved in bfloat16: rounding takes nothing from them."""
        codes = next((m.kind for m in model.modules() if isinstance(m, QuantizedLinear)), None)
        self._precision = Precision(codes or ("bfloat16" if self._whole else "float32"))
        if shared is not None:
            self._precision = shared[0]
        self.convoy: Convoy | None = None
        """Of a model whose layers are shared out among the processes: who gathers them."""
        self.compile = False
        self._fusion = Fusion()
        self._sampler: Sampler | None = None
        self.adapters = way(self.size) if adapters == "auto" else adapters
        self.origin: Mapping[str, Any] | None = None  # how it was loaded, for another process to do the same
        self._adapters = Adapters()
        self._forgotten: list[str] = []  # adapters of forks that nobody has any more
        self.passing = threading.RLock()  # held during a pass through the shared network
        self.parking = Parking(lambda: self.device, lambda: self._free)
        self._count = 0
        self.world = World()  # whom the computing is shared with; `rrm.train` asks who there is
        self._rendered: dict[str, tuple[int, ...]] = {}
        self.reference: dict[tuple[str, str], Tensor] | None = None  # see `remember`
        self.start = Fork(self, "start", self.model, {}, None)
        self.chat = Chat(name, tokenizer, template or {}, stops_of(model, tokenizer), self.vocabulary)
        self.eos_id, self.ends = self.chat.eos_id, self.chat.ends
        self.forms = Forms(name, self.chat.tokens, self.vocabulary, self.eos_id)
        self._hooked = False
        if self._precision != Precision():
            self._round(self._precision)
        if verified:
            check_finite(f"the model {name!r}", self._weights, "its weights are broken: load others")
        if shared is not None:
            self.world, self._weights = join(), []  # nobody is to hold the whole layers any longer
            self.convoy = Convoy(name, self.model, shared[1], self.world)
            self._weights = sorted(self.model.named_parameters())
        if verified:
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
        precision: Asked = "auto",
        shard: bool = False,
    ) -> Backbone:
        """Load a transformers causal language model: "embedded", "embedded-chip" or "embedded-games"; "smollm2",
        "qwen-0.5b" or "qwen-1.5b" once it was fetched (`rrm.models.fetching`); a folder, or a name on the Hub.

        `compile`: torch.compile the passes over whole sequences; it takes minutes, and is slower on a processor
        (docs/bring-your-model.md).
        `device`: as torch names it; "auto" is the first CUDA device where there is one and the model is not tiny (it
        would wait for the launches of its kernels), else the CPU.
        `template`: variables for its chat template, such as {"enable_thinking": False}.
        `precision`: what the frozen weights are kept in while a tree is trained; "auto": what a probe finds faster, in
        bfloat16 always on a GPU (`rrm.models.probing`). Weights that were saved in bfloat16 are, for "bfloat16", loaded
        as they are: in half the memory, and shard by shard to where they belong. "int8" and "nf4" keep them in 8 and 4
        bits (`rrm.models.quantizing`).

        `shard`: share the layers out among the processes that torchrun started; each keeps its part of the weights, on
        a GPU of its own if there are as many (docs/two-processes.md). precision="auto" is then bfloat16 on GPUs, else
        float32; forks are adapters.

        A folder that holds only a PEFT adapter is its base model with the adapter merged in.

        Raises `ModelError` if it cannot be loaded, is not whole, cannot score packed groups exactly, or fails to sample
        or train.
        """
        if precision not in get_args(Asked):
            raise ModelError(f"precision={precision!r}: give {', '.join(get_args(Asked))}")
        shared = None
        if shard:
            adapters, precision, where = arranged(name, join(), adapters, compile, device, precision)
            shared, device = (Precision(precision), where), "cpu"  # there it is shared out
        halved = precision not in ("auto", "float32") and adapters != "full"
        straight = None
        if halved and precision not in KINDS and device in ("auto", "cuda") and torch.cuda.is_available():
            straight = f"cuda:{place()[0] % torch.cuda.device_count()}"
        model, tokenizer = read_pair(name, *resolve(name), own=halved, device=straight)
        if halved and adapters == "auto" and model.num_parameters() < TINY:
            model = model.float()  # exact; it is fully fine-tuned, which says so when it is trained
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() and model.num_parameters() >= TINY else "cpu"
        named = sha256_of(sorted(model.named_parameters()), wide=True) if shard else None  # nobody could say it later
        if device == "cuda" and torch.cuda.is_available():
            device = f"cuda:{place()[0] % torch.cuda.device_count()}"  # each process on this machine has its own
        try:
            if (precision == "int8" or precision == "nf4") and (adapters == "lora" or model.num_parameters() >= TINY):
                named = sha256_of(sorted(model.named_parameters()), wide=True)
                quantize(model, precision, torch.device(device))
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's ways of saying that there is none
            raise ModelError(f"cannot put {name!r} on the device {device!r}: {error}; use device='cpu'") from error
        backbone = cls(name, model, tokenizer, adapters, template, named=named, shared=shared)
        backbone.compile, backbone.asked = compile, precision
        backbone.origin = {
            "name": name, "adapters": adapters, "compile": compile, "template": template, "precision": precision,
            "device": shared[1].type if shared else device.partition(":")[0], "shard": shard,
        }  # fmt: skip
        return backbone

    limit = property(lambda self: self.architecture.limit, doc="Longest sequence in tokens.")
    flexes = property(lambda self: self._fusion.attends(self, "flex"), doc="Whether by flex attention.")
    spans = property(lambda self: self._fusion.attends(self, "spans"), doc="Whether by `rrm.models.spans`.")
    turned = property(lambda self: self._fusion.turned(self), doc="What turns queries and keys on a GPU, or None.")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = self._weights[0][1].device
        return device

    @property
    def precision(self) -> Precision:
        """float32, until a probe says otherwise (`Run.configure`), or bfloat16 where it was loaded so. Set it before
        anything is computed.

        bfloat16: the frozen weights are rounded once, which halves their memory. The adapters stay float32, as do
        log-probabilities, heads and losses; and the output embedding (often the input's, too), unless `Precision.head`
        says otherwise, which takes effect only where it pays. Raises `ModelError` for a model that is fully fine-tuned,
        for going back where something was rounded (it is gone), and if the model cannot sample or train so.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        embedding = self.model.get_output_embeddings()
        if precision.dtype == torch.float32 or not pays(embedding) or self.engine.head:
            precision = replace(precision, head="float32")
        if precision == self._precision:
            return
        coded = self._precision.weights in KINDS
        if coded and precision.weights == self._precision.weights:
            pass  # of the head only
        elif coded or (self._precision.dtype == torch.bfloat16 and not self._whole):
            raise ModelError(
                f"the weights of {self.name!r} were rounded to {self._precision.weights}; load the model again for "
                f"{precision.weights}"
            )
        if self.convoy is not None and precision.dtype != self._precision.dtype:
            raise ModelError(
                f"{self.name!r} was shared out among processes in {self._precision.weights}; load it with "
                f"precision={precision.weights!r}"
            )
        if self.adapters == "full":
            raise ModelError(f"{self.name!r} is fully fine-tuned, which is done in float32; use adapters='lora'")
        _ = self.fingerprint  # of the weights as they were loaded
        self._round(precision)
        self._precision = precision
        self.__dict__.pop("_free", None)  # rounded weights leave more
        self._try_out()

    def _round(self, precision: Precision) -> None:
        if precision.weights in KINDS and self._precision.weights != precision.weights:
            quantize(self.model, precision.weights)  # type: ignore[arg-type]
        if not self._hooked:  # of models in float32 nothing is changed: they can be sent to other processes
            self._hook()
        head = torch.bfloat16 if precision.head == "bfloat16" else torch.float32
        output = {*map(id, self.model.get_output_embeddings().parameters())}
        kept = set() if self.convoy is None else self.convoy.parts()  # they were rounded before they were shared out
        for name, parameter in self.model.named_parameters():
            if "lora_" not in name and parameter.is_floating_point() and parameter not in kept:
                parameter.data = parameter.data.to(head if id(parameter) in output else precision.dtype)

    def _hook(self) -> None:
        """A float32 embedding would make float32 of everything after it, and the output embedding may be of another
        precision than the hidden states."""
        self._hooked = True

        def embedded(module: nn.Module, ids: Any, out: Tensor) -> Tensor:
            return out.to(self._precision.dtype)

        def asked(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0].to(module.weight.dtype), *given[1:])  # type: ignore[arg-type]

        self.model.get_input_embeddings().register_forward_hook(embedded)
        head = self.model.get_output_embeddings()
        if type(head) is nn.Linear:
            head.register_forward_pre_hook(asked)

    @property
    def sampler(self) -> Sampler | None:
        """Who samples as its forks: an engine elsewhere (`rrm.models.vllm_sampler`), or None: the network itself.

        Raises `ModelError` for an engine where forks are no adapters."""
        return self._sampler

    @sampler.setter
    def sampler(self, sampler: Sampler | None) -> None:
        if sampler is not None and self.adapters == "full":
            raise ModelError(
                f"{self.name!r} is copied for each agent, and an engine is given adapters; load it with adapters='lora'"
            )
        self._sampler = sampler

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
    def sha256(self) -> str:
        """Of the starting weights, as they were loaded: every parameter's name, shape and numbers (as float32)."""
        return self._named or sha256_of(self._weights, wide=True)

    @property
    def fingerprint(self) -> str:
        """The first 64 bits of that."""
        return self.sha256[:16]

    @property
    def identity(self) -> dict[str, str]:
        """SHA-256 of what everything starts from, by what it is."""
        return {"weights": self.sha256, "tokenizer": self.chat.sha256()}

    @property
    def capacity(self) -> Capacity:
        """How much the device takes at once, by the memory that was free when it was first asked for."""
        return capacity_of(self.device, self.layers, self.d, self.precision.dtype.itemsize, self._free, self._host)

    @cached_property
    def _free(self) -> int | None:
        return free_memory(self.device)

    @cached_property
    def _host(self) -> int | None:
        return available_memory()

    def budget(self, training: bool) -> int:
        """Cells (rows * length) per forward pass."""
        return self.capacity.training if training else self.capacity.reading

    def check_length(self, length: int) -> None:
        """Raise `ContextError` if a sequence is longer than the model's context."""
        if length > self.limit:
            raise ContextError(
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
        self._forget()
        self._count += 1
        adapter = f"fork{self._count}"
        trainable = self._adapters.add(self.model, adapter)
        if self._count == 1:
            warn_of_experts(self.name, self.model)
        for key, parameter in trainable.items():
            if "lora_A" in key:  # PEFT drew it from the global stream; draw it from a named one
                drawn = torch.empty(parameter.shape)  # on the CPU: the same on every device
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator("lora", name, key))
                parameter.data.copy_(drawn)
        fork = Fork(self, name, self.model, trainable, adapter)
        # Not dropped at once: whenever it is collected, a pass may be under way.
        weakref.finalize(fork, self._forgotten.append, adapter).atexit = False
        return fork

    def _forget(self) -> None:
        """Free the adapters of forks that nobody has any more."""
        while self._forgotten:
            adapter = self._forgotten.pop()
            if adapter in self._adapters:
                self._drop_adapter(adapter)

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

    def switch(self, fork: Fork) -> None:
        """Make the shared network compute as `fork`; nothing to do for full copies."""
        if fork.network is self.model:
            self._adapters.turn_on(fork._adapter)

    def merge(self, adapter: str) -> nn.Module:
        """The whole network with an adapter in it; nothing of this backbone can be used afterwards."""
        if self._precision.weights in KINDS:
            raise ModelError(
                f"the weights of {self.name!r} are in {self._precision.weights}, into which nothing can be added; load "
                "the model in bfloat16 and this fork's state into a fork of it"
            )
        return self._adapters.merge(adapter)

    def release(self, fork: Fork) -> None:
        """Free a fork's weights."""
        if fork is self.start:
            raise ModelError("the starting model cannot be closed")
        if fork._adapter is not None:
            with alone(self.passing, f"closing the fork {fork.name!r}"):
                self._drop_adapter(fork._adapter)
        fork.trainable = {}
        fork.network = nn.Module()

    def _drop_adapter(self, adapter: str) -> None:
        self.model = self._adapters.drop(adapter) or self.model
