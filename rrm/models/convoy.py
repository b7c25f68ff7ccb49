"""A model that no process holds whole: the layers of its trunk are shared out, and gathered when one is computed.

Each layer is sharded by itself (torch's `fully_shard`, Zhao et al. 2023, arXiv 2304.11277). accelerate's FSDP calls the
same function, but on the embeddings, the head and the whole model, too: these are read outside of a pass here, and stay
whole. Gathering a layer takes all processes at once, in one order. But the cases are dealt out: one process computes
more passes than another, or asks the user while the others wait. So before a pass each says what it is about to do, and
goes along with what is to be done first, its own work or not: whoever does not compute gathers the layers for the
others, and lets go of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, distributed, nn

from rrm.core.errors import ModelError
from rrm.core.parallel import DAYS, World, explained, nothing, place
from rrm.models.quantizing import KINDS
from rrm.models.recomputing import layers_of

IDLE, BACKWARD, FORWARD = range(3)
"""What a process is about to do. The largest is done first: a gradient may wait, and its pass keeps what it needs."""


def arranged(
    name: str, world: World, adapters: str, compiled: bool, device: str, precision: str
) -> tuple[Literal["lora"], Literal["float32", "bfloat16"], torch.device]:
    """What kind of forks a model has that is shared out among these processes, its precision, and where this process
    computes. Takes what `Backbone.load` does. Raises `ModelError` if it cannot be, and says what to do instead."""
    why = None
    if world.size < 2:
        why = (
            "this process is alone; start several, torchrun --nproc_per_node N ..., or load it with precision='nf4', "
            "in an eighth of the memory"
        )
    elif adapters == "full":
        why = "it is copied for each fork; load it with adapters='lora'"
    elif precision in KINDS:
        why = f"its weights are kept in {precision}, which is for one device; load it with precision='bfloat16'"
    elif compiled:
        why = "a compiled pass does not wait for the other processes; load it without compile"
    elif world.idle is not nothing:
        why = "another model is, and a process has one of them; make forks of that"
    if why is not None:
        raise ModelError(f"{name!r} cannot be shared out among processes (shard): {why}")
    where = own_device(name, device)
    halved = precision == "bfloat16" or (precision == "auto" and where.type == "cuda")
    return "lora", "bfloat16" if halved else "float32", where


def own_device(name: str, device: str) -> torch.device:
    """Where this process computes its part: on a GPU of its own, or on the processor. Raises `ModelError` if there is
    no GPU for each process on this machine, and the device was not "auto"."""
    number, beside = place()
    kind = torch.device("cpu" if device == "auto" else device).type
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= beside
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not enough):
        raise ModelError(
            f"{name!r} cannot be shared out on {device!r}: that takes a GPU for each of the {beside} processes on this "
            "machine; start fewer, or use device='cpu'"
        )
    on_gpu = enough and (device == "auto" or kind == "cuda")
    return torch.device(f"cuda:{number}" if on_gpu else "cpu")


class Convoy:
    """The processes' way through the layers of one model, in step.

    Parameters
    ----------
    name: the model's, for errors.
    model: a transformers causal language model, the same in all processes, on the CPU. Its layers are sharded, whatever
        else there is of it is put on `device` whole.
    """

    def __init__(self, name: str, model: Any, device: torch.device, world: World) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._name = name
        layers = layers_of(model)
        if not layers:
            raise ModelError(f"{name!r} cannot be shared out (shard): transformers marks no layers of its kind")
        self._group = distributed.new_group(backend="gloo", timeout=DAYS)  # while one asks the user, others wait
        mesh = init_device_mesh(device.type, (world.size,))
        # Each is a root of its own, or FSDP would gather one ahead of another in an order that we do not know.
        self._layers: Sequence[Any] = [fully_shard(cast(Any, layer), mesh=mesh) for layer in layers]
        for layer in self._layers:
            layer.set_reshard_after_forward(True)
            layer.unshard()  # here, because tensors that are first made while sampling could never have a gradient
            layer.reshard()
        inside = {id(module) for layer in layers for module in layer.modules()}
        for module in model.modules():
            if id(module) not in inside:
                _put(module, device)
        self._next, self._end = 0, 0
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(lambda *_, index=index: self._reached(index, 1))
            layer.register_forward_hook(lambda *given, index=index: self._leaving(index, given[-1]))
        model.base_model.register_forward_pre_hook(lambda *_: self.forward())
        model.base_model.register_forward_hook(lambda *given: self._done(given[-1]))
        world.idle = self.idle

    def bytes(self) -> tuple[int, int]:
        """How many bytes of the layers' weights this process keeps, and how many all keep together."""
        parts = self.parts()
        return sum(p.to_local().nbytes for p in parts), sum(p.numel() * p.element_size() for p in parts)

    def parts(self) -> set[Any]:
        """The layers' parameters: each is whole in shape, and this process keeps its part (`to_local`)."""
        return {p for layer in self._layers for name, p in layer.named_parameters() if "lora_" not in name}

    def forward(self) -> None:
        """Before a pass through the layers."""
        self._announce(FORWARD)
        self._next, self._end = 0, len(self._layers)

    def backward(self) -> None:
        """Before a backward pass through the layers."""
        self._let_go()  # of the first layer of a pass whose gradient came before: FSDP would keep it to the very end
        while self._announce(BACKWARD) != BACKWARD:
            self._accompany(FORWARD)
        self._next, self._end = len(self._layers) - 1, -1

    def idle(self) -> None:
        """Until all have done what they had to do."""
        went = False
        while (kind := self._announce(IDLE)) != IDLE:
            self._accompany(kind)
            went = True
        if went:
            self._let_go()  # it notes each pass until the next gradient, and there may be a million

    def _let_go(self) -> None:
        for layer in self._layers:
            layer.reset_iter_state()

    def _announce(self, kind: int) -> int:
        """Say what is next here; returns what is next for all."""
        if self._next != self._end:
            raise ModelError(f"{self._name!r} left a pass before its last layer; it cannot be shared out (shard)")
        said = torch.tensor(kind)
        with explained():
            distributed.all_reduce(said, distributed.ReduceOp.MAX, group=self._group)
        return int(said)

    def _accompany(self, kind: int) -> None:
        """Gather the layers for those who compute."""
        for layer in self._layers if kind == FORWARD else reversed(self._layers):
            with explained():
                layer.unshard()
            layer.reshard()

    def _reached(self, index: int, step: int) -> None:
        if index != self._next:  # it would be given another layer's weights, without anybody noticing
            raise ModelError(
                f"{self._name!r} computes layer {index} where {self._next} comes next: its layers are not computed one "
                "after the other, and it cannot be shared out (shard)"
            )
        self._next += step

    def _leaving(self, index: int, out: Any) -> None:
        hidden: Tensor = out[0] if isinstance(out, tuple) else out
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self._reached(index, -1))  # type: ignore[no-untyped-call]

    def _done(self, out: Any) -> None:
        hidden: Tensor = out[0]
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.backward())  # type: ignore[no-untyped-call]


def _put(module: nn.Module, device: torch.device) -> None:
    """Put what a module itself has, and not what is in it, on a device."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(device)
    for name, buffer in list(module.named_buffers(recurse=False)):
        setattr(module, name, buffer.to(device))
