"""What a tree's training costs on a device: memory and time, by parts, from its settings and the model's sizes.

Sizes of passes are those of training, by the same functions: `capacity_of`, `cases_at_once`, `shapes` (of `pack`). Time
is what is computed over what a device is known to reach (`DeviceSpec`), and decoding is bound by the bytes that each
step reads. A plan, not a measurement: docs/past-one-machine.md says how far it was from runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from rrm.core.task import Task
from rrm.loop.planning import Extent, NodeWork, Pass, is_frozen, total, works
from rrm.models.backbone import Asked
from rrm.models.capacity import Capacity, activations, asked_memory, capacity_of
from rrm.models.device_spec import DeviceSpec
from rrm.models.head import WIDENS
from rrm.models.model_shape import LOADED, ModelShape
from rrm.models.packing import PrefixGroup, shapes
from rrm.models.parking import device_room
from rrm.models.quantizing import BYTES
from rrm.models.sampling import cases_at_once, token_bytes

CONTEXT = 1_000_000_000
"""Bytes that a GPU's driver, libraries and torch's own pieces take beside what is asked for."""
COPIES = 16
"""Bytes of a logit with its copies (softmax, gradient, running sum), as `on_gpu` counts them."""
SINGLE = 4
"""Bytes of a float32: of adapters, of gradients, of each of AdamW's two moments."""
GROUPS = 64
"""Groups that are laid out to see how they are packed; more of the same are packed alike."""


@dataclass(frozen=True)
class NodeCost:
    """One node: what its training computes and holds."""

    path: str
    depth: int
    rounds: int
    judgements: int
    sampled: int
    """Tokens of outcomes, its assistants' answers among them."""
    answers: int
    """Tokens of those answers."""
    read: int
    """Tokens of outcomes in passes without a gradient."""
    trained: int
    """Tokens of outcomes in passes with one."""
    seconds: float
    parts: Mapping[str, float]
    """Seconds by purpose."""
    weights: int
    """Bytes of its adapters, or copies, while the run goes on."""
    disk: int
    """Bytes of its checkpoints."""


@dataclass(frozen=True)
class Plan:
    """A tree on a device. All memory in bytes, of one GPU, which holds the whole model."""

    device: DeviceSpec
    model: ModelShape
    gpus: int
    capacity: Capacity
    nodes: tuple[NodeCost, ...]
    """Children before parents, as they are trained."""
    memory: Mapping[str, int]
    """By parts that are there at the same time; the largest moment of them is `peak`."""
    peak: int
    parked: int
    """Bytes of adapters, or copies, that wait on the host (`rrm.models.parking`), at most."""
    loading: int
    """Bytes while the model is loaded."""
    problems: tuple[str, ...]
    """Why it cannot be trained like this, and what to use instead."""
    at_best: float
    """Seconds if siblings are trained side by side, on `gpus` of them."""

    @property
    def seconds(self) -> float:
        """Of one device, for all nodes one after another."""
        return sum(node.seconds for node in self.nodes)

    @property
    def judgements(self) -> int:
        """The user's, at most."""
        return sum(node.judgements for node in self.nodes)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "device": vars(self.device), "model": vars(self.model), "gpus": self.gpus,
            "capacity": vars(self.capacity), "memory": dict(self.memory), "peak": self.peak, "parked": self.parked,
            "loading": self.loading, "problems": list(self.problems), "seconds": self.seconds,
            "seconds_at_best": self.at_best, "judgements": self.judgements,
            "nodes": [vars(node) | {"parts": dict(node.parts)} for node in self.nodes],
        }  # fmt: skip


def plan(
    task: Task, model: ModelShape, device: DeviceSpec, found: Mapping[str, Extent], gpus: int = 1,
    precision: Asked = "auto",
) -> Plan:  # fmt: skip
    """Plan a tree. task: planted. found: from `rrm.loop.planning.extents`. precision: as `Backbone.load` takes it."""
    costs = Costs(model, device, precision)
    frozen = device.kind == "cpu"
    work = works(task, found, frozen)
    nodes = tuple(costs.node(one, frozen) for one in work)
    forks = sum(node.weights for node in nodes)
    there = costs.there(forks)
    memory, peak = costs.memory(work, there)
    problems = _too_long(work, found, model) + costs.too_large(memory, peak)
    alone = {node.path: node.seconds for node in nodes}
    least = max(sum(alone.values()) / gpus, _longest(task, alone))
    return Plan(
        device, model, gpus, costs.capacity, nodes, memory, peak, forks - there, costs.loading, tuple(problems), least
    )


def _longest(task: Task, alone: Mapping[str, float]) -> float:
    """Seconds of the longest way from a leaf to the root: no number of devices makes it shorter."""
    below = [_longest(sub, alone) for sub in task.assistants if isinstance(sub, Task)]
    return alone[task.path] + max(below, default=0.0)


def _too_long(work: Sequence[NodeWork], found: Mapping[str, Extent], model: ModelShape) -> list[str]:
    for one in work:
        most = one.extent.longest + one.task.settings.max_tokens
        if most > model.limit:
            return [
                f"{one.task.path}: a case of {one.extent.longest} tokens and {one.task.settings.max_tokens} of an "
                f"outcome exceed the model's context ({model.limit}): use shorter cases (--case, if they are), a lower "
                "max_tokens, or another model"
            ]
    return []


class Costs:
    """What passes take of a model on a device."""

    def __init__(self, model: ModelShape, device: DeviceSpec, precision: Asked = "auto") -> None:
        self.model, self.device = model, device
        full = model.way == "full"
        asked = {"auto": device.itemsize, "float32": SINGLE}.get(precision, 2)
        self.itemsize = SINGLE if full else asked
        self.product = device.single if self.itemsize == SINGLE else device.product
        self.weights, self.widened = model.parameters * self.itemsize, 0
        straight = precision not in ("auto", "float32") and not full
        self.loading = model.parameters * (model.saved if straight else LOADED)
        self.gpu = device.kind == "cuda"
        # Packed rows go by `rrm.models.spans`, which computes nothing hidden, but for models with windows.
        self.spans = self.gpu and self.itemsize != SINGLE
        if precision in BYTES and not full:
            self.weights = round(model.linear * BYTES[precision] + (model.parameters - model.linear) * self.itemsize)
            self.widened = 2 * self.itemsize * model.linear  # a pass writes every layer, and reads it again
            self.loading = self.weights if self.gpu else self.loading  # layer by layer, out of the host's memory
        # What training takes, in passes: forward, the gradients of activations, and of weights unless they are frozen.
        self.forward = 3 if full else 2

    @cached_property
    def capacity(self) -> Capacity:
        """As training finds it: by what is free when the model was loaded and rounded."""
        free = self.free if self.gpu else None
        host = None if self.gpu else self.device.memory
        return capacity_of(torch.device(self.device.kind), self.model.layers, self.model.d, self.itemsize, free, host)

    @cached_property
    def free(self) -> int:
        """Bytes of the device beside the weights, or what passes were given of them."""
        left = self.device.memory - CONTEXT - self.weights
        return asked_memory() or (left if left > 0 else self.device.memory // 2)  # it does not fit: as if it did

    # --- a pass ----------------------------------------------------------------------------------

    def seconds(self, one: Pass) -> float:
        """How long it takes."""
        if one.kind == "ask" or not one.times or not one.cases:
            return 0.0
        return one.times * (self._decoding(one) if one.kind == "sample" else self._packed(one))

    def _decoding(self, one: Pass) -> float:
        model, at_once = self.model, self._at_once(one, one.prompt, one.tokens)
        left, seconds = one.cases, 0.0
        cell = self._cell()
        while left > 0:
            cases = min(left, at_once)
            left -= cases
            rows = cases * one.n
            columns = one.tokens if self.gpu else one.tokens / 2  # recorded steps read the whole room
            read = self.weights + self.widened + cell * (cases * one.prompt + rows * columns)
            flops = 2 * rows * (model.linear + model.head)
            step = model.layers * self.device.launch
            step += max(read / self.device.bandwidth, flops / (self.product * self.device.reading))
            prefill = self._forward(cases, one.prompt, one.prompt) / (self.product * self.device.reading)
            seconds += one.tokens * step + prefill
        return seconds

    def _packed(self, one: Pass) -> float:
        train = one.kind == "train"
        reached = self.product * (self.device.training if train else self.device.reading)
        seconds = 0.0
        for rows, length in self._shapes(one):
            times = self.forward + self._again(rows * length) if train else 1
            flops = self._forward(rows, length, self._seen(one, length))
            seconds += times * (flops / reached + self.model.layers * self.device.launch)
            seconds += times * self.widened / self.device.bandwidth
        logits = one.cases * one.n * one.tokens if one.logits else 0
        return seconds + 2 * logits * self.model.head * (2 if train else 1) / reached

    def _again(self, cells: int) -> bool:
        """Whether a training pass computes its layers again in the backward pass, since it cannot keep them."""
        return cells > self.capacity.keeping

    def _forward(self, rows: int, length: int, seen: float) -> float:
        """FLOP of a pass over rows; seen: how many tokens one attends to in the mean."""
        attention = 4 * self.model.layers * self.model.attention * seen
        return rows * length * (2 * self.model.linear + attention)

    def _seen(self, one: Pass, length: int) -> float:
        """See `_forward`; a dense kernel computes the cells that a mask hides, too."""
        if not self.spans:
            return length
        case, outcome = min(one.prompt, length), max(1, one.tokens)
        outcomes = max(0, length - case) / outcome
        return (case * case / 2 + outcomes * outcome * (case + outcome / 2)) / length

    def _shapes(self, one: Pass) -> list[tuple[int, int]]:
        """(rows, length) of the batches of one time."""
        budget = self.capacity.training if one.kind == "train" else self.capacity.reading
        group = PrefixGroup(range(max(1, one.prompt)), [range(max(1, one.tokens))] * one.n)
        together = one.batch or one.cases
        some = min(together, GROUPS)
        found = shapes([group] * some, d=self.model.d, budget=budget, whole=one.whole, masked=not self.spans)
        times = math.ceil(one.cases / some)
        return found * times

    def _at_once(self, one: Pass, longest: int, tokens: int) -> int:
        there = self.model.vocabulary if self.gpu else None
        return min(one.cases, cases_at_once(self.capacity, self._cell(), max(1, longest), one.n, tokens, there))

    def _cell(self) -> int:
        return token_bytes(self.model.kept, self.itemsize, self.gpu and WIDENS)

    # --- memory ----------------------------------------------------------------------------------

    def there(self, forks: int) -> int:
        """Bytes that are on the device at one time of so many of all nodes' adapters, or copies: on a GPU as many as
        have room, and at least the one that is trained and the one that computes for it."""
        return min(forks, max(2 * self.model.fork * SINGLE, device_room(self.free))) if self.gpu else forks

    def memory(self, work: Sequence[NodeWork], forks: int) -> tuple[dict[str, int], int]:
        """By parts, and the most that is there at one time. forks: bytes of adapters, or copies, on the device."""
        sampling = reading = training = logits = 0
        for one in work:
            for each in one.passes:
                if each.kind == "sample":
                    cases = self._at_once(each, one.extent.longest, one.task.settings.max_tokens)
                    room = each.prompt + each.n * one.task.settings.max_tokens
                    sampling = max(sampling, cases * room * self._cell() + self._logits(cases * each.n))
                elif each.kind in ("read", "train"):
                    used = max((self._pass_bytes(rows, length, each.kind == "train", each.n)
                                for rows, length in self._shapes(each)), default=0)  # fmt: skip
                    tokens = self._logits(each.cases * each.n * each.tokens) if each.logits else 0
                    logits = max(logits, tokens)
                    training = max(training, used) if each.kind == "train" else training
                    reading = max(reading, used + tokens) if each.kind == "read" else reading
        optimizer = 3 * SINGLE * self.model.fork if training else 0
        parts = {
            "weights": self.weights, "adapters": forks, "gradients and AdamW": optimizer,
            "activations in training": training, "logits": logits, "keys and values": sampling,
        }  # fmt: skip
        fixed = self.weights + forks + (CONTEXT if self.gpu else 0)
        return parts, fixed + max(optimizer + training + logits, sampling, reading)

    def _pass_bytes(self, rows: int, length: int, train: bool, n: int) -> int:
        again = train and self._again(rows * length)
        per = activations(self.model.layers if train and not again else 1, self.model.d, self.itemsize)
        per += self.model.layers * self.model.d * self.itemsize if again else 0  # what each layer was given
        mask = rows * length * length * (SINGLE + self.itemsize) if n > 1 and not self.spans else 0
        return rows * length * per + mask

    def _logits(self, tokens: int) -> int:
        most = self.capacity.logits // self.model.vocabulary
        return min(tokens, max(1, most)) * self.model.vocabulary * COPIES

    def too_large(self, memory: Mapping[str, int], peak: int) -> list[str]:
        """Why it does not fit, and what to use."""
        have = self.device.memory
        found = []
        if self.loading + (CONTEXT if self.gpu else 0) > have:
            each = self.loading / self.model.parameters
            most = (have - (CONTEXT if self.gpu else 0)) / each / 1e9
            kind = "float32" if each == LOADED else "bfloat16" if each == 2 else "codes"
            less = {"float32": "--precision bfloat16, " if self.model.saved < LOADED else "", "codes": ""}
            halved = less.get(kind, "--precision nf4, ") if most > 0 else ""
            found.append(
                f"does not fit: a model is loaded in {kind}, {self.loading / 1e9:.1f} GB of {have / 1e9:.1f}: use "
                f"{halved}one of at most {most:.1f} B parameters, or a device with "
                f"{(self.loading + CONTEXT) / 1e9:.0f} GB; --gpus does not help, a plan gives each the whole model "
                "(rrm train --shard does not, and is not planned). Time is planned as if it did fit"
            )
        elif peak > have:
            largest = max((name for name in memory if name != "weights"), key=lambda name: memory[name])
            mend = {
                "adapters": "fewer nodes or reward_trunk=frozen", "activations in training": "a lower max_tokens or "
                "shorter cases (a case and its outcomes are one row)", "keys and values": "a lower max_tokens or group",
                "gradients and AdamW": "a smaller model", "logits": "RRM_MEMORY=GiB, smaller passes",
            }  # fmt: skip
            found.append(
                f"does not fit: {peak / 1e9:.1f} GB of {have / 1e9:.1f}; of what grows most is {largest} "
                f"({memory[largest] / 1e9:.1f}): use {mend[largest]}, or a device with more memory"
            )
        return found

    # --- a node ----------------------------------------------------------------------------------

    def node(self, work: NodeWork, frozen: bool) -> NodeCost:
        """One node's cost."""
        s, passes = work.task.settings, work.passes
        parts: dict[str, float] = {}
        for one in passes:
            purpose = "answers" if "answers" in one.purpose else one.purpose
            name = f"{purpose}, {one.kind}" if purpose in ("improve", "fit") else purpose
            parts[name] = parts.get(name, 0.0) + self.seconds(one)
        answers = [one for one in passes if "answers" in one.purpose]
        forks = 1 if is_frozen(s, frozen) else 2
        held = forks * self.model.fork * SINGLE
        return NodeCost(
            work.task.path, work.task.path.count("/"), work.rounds, work.judgements, total(passes, "sample"),
            total(answers, "sample"), total(passes, "read"), total(passes, "train"), sum(parts.values()), parts, held,
            held * work.rounds,
        )  # fmt: skip
