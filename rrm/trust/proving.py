"""Proofs about a node's reward model, for the very weights: what can never raise the reward, and between what it is.

The heads are linear over features of which the ranges are known, so such statements are decided exactly
(`rrm.trust.linear`), and z3 is asked the same (`rrm.trust.solver`). What fails comes with a counterexample, which the
model's own arithmetic confirms.
"""

from __future__ import annotations

import base64
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from rrm.core.errors import RRMError, RunError
from rrm.trust.linear import (
    MOST,
    LinearHeads,
    Ranges,
    Rise,
    bounds,
    can_rise,
    exactly,
    find_rise,
    least_cautious,
    limited,
    moving,
    never_rises,
    rises,
)
from rrm.trust.solver import MISSING, Searched, search_rise, search_slope, there
from rrm.view.reading import Reader

Verdict = Literal["holds", "fails", "not decided"]
BY_Z3 = "z3: from no scores that the weights allow does such a step raise it"
"""Why it holds, where z3 alone says so."""
FLOOR = -20.0
"""Nats: no token of an outcome is taken to be less likely to the starting model."""
CAN, CANNOT, LATE = "it can rise", "it cannot rise", "no answer in time"
"""What z3 says."""
SILENT = (f"not asked: {MISSING}", LATE)
"""What is said where it says nothing."""
TALL = 4
"""A share of facts called wrong is a feature between 0 and this."""


@dataclass(frozen=True)
class ProofQuestion:
    """What is asked of a direction: see `decide`."""

    what: str
    direction: Mapping[int, Fraction]
    amount: Fraction
    caution: Fraction
    within: bool


@dataclass(frozen=True)
class Decided:
    """A statement, and what is known of it."""

    says: str
    verdict: Verdict
    why: str
    counterexample: Mapping[str, Any] | None = None
    z3: str = ""
    """What z3 said; empty where there is nothing to ask it."""
    question: ProofQuestion | None = None
    """What was decided; None where it was not about a direction."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"statement": self.says, "verdict": self.verdict, "why": self.why}
        if self.counterexample is not None:
            found["counterexample"] = dict(self.counterexample)
        return found | ({"z3": self.z3} if self.z3 else {})


@dataclass(frozen=True)
class Subject:
    """A node's reward model: its heads, where their features can be, and what the features are called."""

    heads: LinearHeads
    ranges: Ranges
    assistants: tuple[str, ...]
    state: Mapping[str, Any]
    """Its weights as they were kept."""
    assumptions: tuple[str, ...]


def state_of(run: Reader, node: str) -> Mapping[str, Any]:
    """The newest weights of a node's reward model. Raises `RunError` if there are none, or they were changed."""
    from safetensors.torch import load  # late: torch takes seconds

    from rrm.store.files import read_checked

    saved = [(path, sha256) for _, part, path, sha256, _ in run.checkpoints.get(node, ()) if part == "reward"]
    if not saved:
        raise RunError(f"{run.folder}: no reward model at {node!r} yet; train it first")
    return load(read_checked(run.folder / saved[-1][0], saved[-1][1]))


def subject_of(
    run: Reader, node: str, state: Mapping[str, Any], norm: tuple[Sequence[float], Sequence[float]] | None,
    floor: float = FLOOR,
) -> Subject:  # fmt: skip
    """A node's reward model as a subject of proofs.

    norm: gain and offset of the model's last normalization, each (d,); None if they are not known.
    Raises `RunError` for a reward model that is no linear head on features of a text.
    """
    from rrm.models.features import FINDINGS, SURPRISE
    from rrm.models.reward import LIMIT

    if "heads.weight" not in state:
        raise RunError(f"{node}: its reward model is a network over the steps of an episode, and no linear head")
    settings = run.nodes[node].settings
    heads = LinearHeads.of(state, LIMIT, float(settings.get("caution", 0.0)))
    surprised, seen = bool(settings.get("surprise")), settings.get("reward_sees") == "assistance"
    names = _assistants(run, node) if settings.get("findings") and seen else ()
    hidden = len(heads.weight[0]) - SURPRISE * surprised - FINDINGS * len(names)
    if norm is not None and len(norm[0]) != hidden:
        raise RunError(
            f"{node}: its heads have {len(heads.weight[0])} features, which are not the model's {len(norm[0])} and "
            f"those of {len(names)} assistants; config.json says other assistants than it was trained with"
        )
    beside: list[tuple[Fraction, Fraction]] = []
    said = ["The weights are taken as the rational numbers that they are, and arithmetic as exact: rounding in float32 "
            "is not covered."]  # fmt: skip
    if norm is None:
        said.append("Of the hidden state nothing is assumed.")
    else:
        said.append("The hidden state is what the last normalization can give: gain * z + offset with |z|^2 <= d.")
    if surprised:
        low, most = Fraction(floor), int(settings.get("max_tokens", 0))
        most_low = (Fraction(0), Fraction(math.nextafter(math.log1p(most), math.inf)))
        beside += [(low, Fraction(0)), (low / 4, Fraction(0)), most_low, (low * most / 32, Fraction(0))]
        said.append(f"No token is less likely to the starting model than e^{floor:g}, and there are at most {most}: "
                    "the surprise features have no bound without that.")  # fmt: skip
    for _ in names:
        beside += [(Fraction(0), Fraction(TALL)), (Fraction(0), Fraction(TALL)), (Fraction(0), Fraction(1))]
    if names:
        said.append(f"A share of facts called wrong is from 0 to {TALL}, and N/A 0 or 1, by construction.")
    said.append("What holds, holds of all features in these ranges. A counterexample is features in these ranges; that "
                "some text has them is not shown.")  # fmt: skip
    gain, offset = (None, None) if norm is None else (exactly(norm[0]), exactly(norm[1]))
    return Subject(heads, Ranges(hidden, gain, offset, tuple(beside)), tuple(names), state, tuple(said))


def inputs_of(subject: Subject, floor: float) -> dict[str, Any]:
    """What the statements about a subject follow from besides the run, as JSON: the floor, and the starting model's
    last normalization (gain and offset as base64 of float32), if it is known."""
    ranges, found = subject.ranges, {"floor": floor, "norm": None}
    if ranges.gain is None or ranges.offset is None:
        return found
    return found | {"norm": {"gain": _packed(ranges.gain), "offset": _packed(ranges.offset)}}


def norm_in(inputs: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    """The normalization that is written down there. Raises what a damaged text raises (`rrm.core.border.BROKEN`)."""
    norm = inputs["norm"]
    return None if norm is None else (_unpacked(norm["gain"]), _unpacked(norm["offset"]))


def _packed(values: Sequence[Fraction]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *map(float, values))).decode()


def _unpacked(text: str) -> list[float]:
    body = base64.b64decode(text, validate=True)
    if len(body) % 4:
        raise ValueError("these are no numbers of 4 bytes each")
    return [*struct.unpack(f"<{len(body) // 4}f", body)]


def _assistants(run: Reader, node: str) -> tuple[str, ...]:
    told = run.config.get("about", {}).get("tasks", {}).get(node, {}).get("assistants")
    return tuple(told) if told is not None else tuple(child.path for child in run.children(node))


def prove(subject: Subject, done: Callable[[Decided], None] | None = None) -> list[Decided]:
    """All statements, decided; `done` hears each. z3 is asked where it is installed."""
    found = []
    for one in itertools.chain(_bounded(subject), _caution(subject), _called_wrong(subject)):
        found.append(one)
        if done is not None:
            done(one)
    return found


# --- what bounds it ----------------------------------------------------------------------------------


def _bounded(subject: Subject) -> Iterator[Decided]:
    heads, ranges = subject.heads, subject.ranges
    if heads.scale is None:
        yield Decided("Every score is 0.", "holds", "its last fit taught it nothing, and its scale is endless")
        return
    low, high, by = bounds(heads, ranges)
    why = "by the weights' own reach: |w h| <= |w gain| sqrt(d) of the hidden state, and the ends of the others"
    if by == "limit":
        why += f"; of some heads that is beyond the limit of {float(heads.limit):g}, which ends it"
    yield Decided(f"The mean of the heads is never below {_down(low)} or above {_up(high)}.", "holds", why)
    if not heads.caution:
        return
    least = least_cautious(heads)
    yield Decided(
        f"The reward, mean - {float(heads.caution):g} std, is never below {_down(least)} or above "
        f"{float(heads.limit):g}, whatever the features are.",
        "holds", "every head ends at its limit, and mean - caution * std is concave in the scores: least at a corner",
    )  # fmt: skip


def _caution(subject: Subject) -> Iterator[Decided]:
    caution = subject.heads.caution
    holds: Verdict = "holds" if caution >= 0 else "fails"
    says = "Caution never raises a reward, and more of it never does."
    yield Decided(says, holds, "a standard deviation is at least 0")


# --- what raises it ----------------------------------------------------------------------------------


def directions(subject: Subject) -> list[tuple[str, dict[int, Fraction], Fraction]]:
    """What must not raise the reward: in words, as features that change together, and how much at most."""
    from rrm.models.features import FINDINGS

    found = []
    first = len(subject.heads.weight[0]) - FINDINGS * len(subject.assistants)
    one, tall = Fraction(1), Fraction(TALL)
    for number, name in enumerate(subject.assistants):
        share, deep, silent = range(first + FINDINGS * number, first + FINDINGS * (number + 1))
        found += [
            (f"more facts called wrong by {name}", {share: one}, tall),
            (f"more facts called wrong by whoever spoke deepest below {name}", {deep: one}, tall),
            (f"more facts called wrong by {name} and by whoever spoke deepest below it alike",
             {share: one, deep: one}, tall),
            (f"no answer of {name} (N/A)", {silent: one}, one),
        ]  # fmt: skip
    return found


def _called_wrong(subject: Subject) -> Iterator[Decided]:
    if not subject.assistants:
        yield Decided(
            "With all else equal, a fact called wrong never raises the reward.", "not decided",
            "no features say what assistants called wrong: it has none, reads them as text, or reads the outcome alone",
        )  # fmt: skip
        return
    anywhere = any(limited(subject.heads, subject.ranges))
    for what, direction, amount in directions(subject):
        for caution in dict.fromkeys((Fraction(0), subject.heads.caution)):
            found = decide(subject, what, direction, amount, caution, within=False)
            yield found
            if anywhere and found.verdict != "holds":
                yield decide(subject, what, direction, amount, caution, within=True)


def decide(
    subject: Subject, what: str, direction: Mapping[int, Fraction], amount: Fraction, caution: Fraction, within: bool,
    asking: bool = True,
) -> Decided:  # fmt: skip
    """Whether more of a direction, with all else equal, never raises the reward. within: only while no head's score is
    at its limit. asking: whether z3 is asked."""
    question = ProofQuestion(what, direction, amount, caution, within)
    return replace(_decided(subject, question, asking), question=question)


def _decided(subject: Subject, question: ProofQuestion, asking: bool) -> Decided:
    what, direction, amount, caution, within = (
        question.what, question.direction, question.amount, question.caution, question.within
    )  # fmt: skip
    heads, ranges = subject.heads, subject.ranges
    reward = f"the reward (mean - {float(caution):g} std)" if caution else "the mean of the heads"
    where = f", as long as no head is at its limit of {float(heads.limit):g}" if within else ""
    says = f"With all else equal, {what} never raises {reward}{where}."
    slope, may = heads.slope(direction), limited(heads, ranges)
    if within:
        may = (False,) * len(may)
    holds = never_rises(slope, may, caution)
    asked, z3 = _asked(subject, slope, may, amount, caution, within) if asking else (Searched(None), "")
    if holds and asked.can:
        raise RRMError(f"two proofs contradict each other, of: {says} Please report this, with {slope}")
    if holds:
        return Decided(says, "holds", _reason(slope, may, caution), z3=z3)
    if asked.can is False:  # it looks at what the scores can be, and not only at where which of them move
        return Decided(says, "holds", BY_Z3, z3=z3)
    scores = [asked.scores] if asked.scores else []
    found = find_rise(heads, ranges, direction, amount, caution, scores, within)
    if found is None:
        return Decided(says, "not decided", "neither a proof nor a counterexample was found", z3=z3)
    return _failed(subject, says, found, direction, z3)


def _failed(subject: Subject, says: str, found: Rise, direction: Mapping[int, Fraction], z3: str) -> Decided:
    real = _real(subject, found, direction)
    if found.inside is None:
        why = "the starting model's last normalization is not known, so whether a hidden state can be so is not"
        return Decided(says, "not decided", f"it fails, if any hidden state may be: {why}", real, z3)
    if not found.inside:
        return Decided(says, "not decided", "it fails at features outside of their ranges; within, none were found",
                       real, z3)  # fmt: skip
    return Decided(says, "fails", "the reward rises at the counterexample, by exact arithmetic", real, z3)


def shown_at(subject: Subject, one: Decided, features: str) -> Decided | None:
    """A statement with a counterexample that somebody else found, in the place of its own: checked by exact arithmetic.

    features: base64 of float32. None: nothing rises there. Raises what a damaged text raises.
    """
    heads, asked = subject.heads, one.question
    x = exactly(_unpacked(features))
    if asked is None or heads.scale is None or len(x) != len(heads.weight[0]):
        return None
    moved = tuple(value + asked.amount * asked.direction.get(i, Fraction(0)) for i, value in enumerate(x))
    raw = (heads.raw(x), heads.raw(moved))
    before, after = (heads.clamped(side) for side in raw)
    beyond = asked.within and any(abs(score) > heads.limit for side in raw for score in side)
    if beyond or not rises(before, after, asked.caution):
        return None
    both = (subject.ranges.inside(x), subject.ranges.inside(moved))
    inside = False if False in both else None if None in both else True
    found = Rise(x, asked.amount, before, after, inside)
    return replace(_failed(subject, one.says, found, asked.direction, one.z3), question=asked)


def _reason(slope: Sequence[Fraction], may: Sequence[bool], caution: Fraction) -> str:
    if not any(slope):
        return "no head heeds it"
    if all(v <= 0 for v in slope) and not caution:
        return "every head's weight on it is at most 0"
    mean = float(sum(slope, Fraction(0)) / len(slope))
    if not caution:
        return f"the mean weight is {mean:.3g}, and no heads can be at their limit so that the others' is above 0"
    worst = max((_most(v, caution) for v in moving(slope, may)), default=0.0) if len(slope) <= MOST else math.nan
    return f"mean(v) + caution * std(v) of the heads' weights on it is at most {worst:.3g} (Cauchy-Schwarz)"


def _most(slope: Sequence[Fraction], caution: Fraction) -> float:
    mean = sum(map(float, slope)) / len(slope)
    return mean + float(caution) * math.sqrt(sum((float(v) - mean) ** 2 for v in slope) / len(slope))


def _asked(
    subject: Subject, slope: Sequence[Fraction], may: Sequence[bool], amount: Fraction, caution: Fraction, within: bool
) -> tuple[Searched, str]:
    """What z3 says, and that in words."""
    if not any(slope):  # nothing to ask
        return Searched(None), ""
    if not there():
        return Searched(None), SILENT[0]
    said = Searched(None)
    if caution:
        said = search_slope(slope, may, caution)
    limit, whole = subject.heads.limit, amount == 1  # N/A is 0 or 1, and nothing between
    if not caution or (said.can and (whole or not can_rise(slope, caution))):
        between = [(-limit, limit)] * len(slope) if within else reaches(subject)
        said = search_rise(slope, between, amount, caution, None if within else limit, whole)
    return said, {True: CAN, False: CANNOT, None: LATE}[said.can]


def reaches(subject: Subject) -> list[tuple[Fraction, Fraction] | None]:
    """Per head between what its score is before the limit; None: no bound."""
    heads = subject.heads
    assert heads.scale is not None
    found: list[tuple[Fraction, Fraction] | None] = []
    for row, shift in zip(heads.weight, heads.shift, strict=True):
        ends = subject.ranges.reach(row)
        found.append(None if ends is None else ((ends[0] - shift) / heads.scale, (ends[1] - shift) / heads.scale))
    return found


def _real(subject: Subject, found: Rise, direction: Mapping[int, Fraction]) -> dict[str, Any]:
    """A counterexample, with what the model's own arithmetic makes of it."""
    import torch

    from rrm.models.reward import ensemble

    x = torch.tensor([float(value) for value in found.features])
    more = x.clone()
    for i, per in direction.items():
        more[i] += float(per * found.amount)
    raw = torch.stack([x, more]) @ subject.state["heads.weight"].T
    scores = ensemble(raw, subject.state["norm.shift"], subject.state["norm.scale"])
    caution = float(subject.heads.caution)
    both = [
        {"mean": float(mean), "std": float(std), "reward": float(mean) - caution * float(std)}
        for mean, std in zip(scores.mean, scores.std, strict=True)
    ]
    return {
        "features": base64.b64encode(x.numpy().astype("<f4").tobytes()).decode(),
        "changes": {str(i): float(per * found.amount) for i, per in direction.items()},
        "before": both[0], "after": both[1], "heads_before": [float(one) for one in found.before],
        "heads_after": [float(one) for one in found.after],
    }  # fmt: skip


def _down(x: Fraction) -> str:
    return f"{math.floor(x * 1000) / 1000:g}"


def _up(x: Fraction) -> str:
    return f"{math.ceil(x * 1000) / 1000:g}"
