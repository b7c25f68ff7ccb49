"""How long a tree's training takes here, in each size: planned in a moment (`rrm.loop.costs`), and called a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from rrm.command.common import quiet_loading
from rrm.core.errors import RRMError
from rrm.core.sizes import Size, sized
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.loop.training import acts

SIZES: tuple[Size, ...] = ("smoke", "small", "full")
OFF = "runs took from a third of a plan's time to twice as long"
"""See docs/past-one-machine.md: outcomes end before `max_tokens`, and passes with few rows are slower than planned."""


def timed(task: Task, model: str, sizes: Sequence[Size]) -> Iterator[str]:
    """A line for each size, and one on what they are worth; or why it is not known."""
    quiet_loading()
    if acts(model):
        yield f"How long it takes is not planned where agents act ({model}); --size smoke tells soonest."
        return
    import torch  # late, like all that takes seconds

    if torch.cuda.is_available():
        yield "How long it takes on this GPU: rrm plan knows some by name (--device h100)."
        return
    try:
        found = _planned(task, model, sizes)
    except RRMError as error:  # a model that is not here, say: the tree can be right all the same
        yield f"How long it takes is not known: {error}"
        return
    for size, (seconds, judgements) in zip(sizes, found, strict=True):
        yield f"--size {size:5}  {about(seconds)} on this processor, {judgements:,} pairs to judge at most"
    yield (
        f"That is a plan for {model}, not a measurement: {OFF}. People's time to judge, and some seconds to load, come "
        "on top."
    )
    if line := busy(torch.get_num_threads()):
        yield line


def _planned(task: Task, model: str, sizes: Sequence[Size]) -> list[tuple[float, int]]:
    """(seconds, judgements) of each size."""
    from rrm.command.plan_command import counters
    from rrm.loop.costs import plan
    from rrm.loop.planning import extents
    from rrm.models.device_spec import DeviceSpec
    from rrm.models.model_shape import ModelShape
    from rrm.models.precision import limit_threads

    limit_threads()
    shape, spec, count = ModelShape.of(model), DeviceSpec.of("cpu"), counters(model)[0]
    trees = [plant(sized(task, size)) for size in sizes]
    plans = [plan(tree, shape, spec, extents(tree, count)) for tree in trees]
    return [(done.seconds, done.judgements) for done in plans]


def busy(threads: int, load: float | None = None, processors: int | None = None) -> str:
    """ "this machine is busy (load 7 on 2 cores): expect about 4 times that"; empty where it is not, or nobody knows.

    threads: that training computes with. load: how many others were ready to run, over the last minute; by default the
    system's average. They and ours get their shares of the processors, while a plan has these to itself.
    """
    if load is None:
        try:
            load = os.getloadavg()[0]
        except (AttributeError, OSError):  # not on this system
            return ""
    if processors is None:
        from rrm.models.precision import cores

        processors = cores()
    if load < processors:
        return ""
    on = "1 core" if processors == 1 else f"{processors} cores"
    times = (load + threads) / processors
    return f"this machine is busy (load {load:.2g} on {on}): expect about {times:.2g} times that"


def about(seconds: float) -> str:
    """In words that are no more exact than a plan is: "under 10 s", "about 40 s", "about 3 min", "about 2 h"."""
    if seconds < 10:
        return "under 10 s"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.2g} h"
