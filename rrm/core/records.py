"""The records everything else speaks of: cases, outcomes, groups, facts, and what assistants say of them.

Nothing here knows about models, tasks or users. An outcome may be text, or something else that is described in words:
an action, a trajectory in an environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field as Kept

from rrm.core.errors import SealedOracle


def digest(*parts: Any) -> str:
    """A short content hash of JSON-able parts: the identity of cases, outcomes and pairs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


CUT_FROM = "cut_from"
"""In the data of an outcome that is a part of another: what it was cut from (`rrm.core.parts`)."""
Spans = Mapping[str, tuple[int, int]]
"""Fact name -> where it is in an outcome's text: first character, and the one after the last."""


@dataclass(frozen=True)
class Case:
    """One input of a task: the prompt the agent reads, the world's data behind it (JSON-able), and the form of its
    outcomes.

    `form`: a regular expression that language models here are held to while they write (`rrm.models.form`); empty:
    they write freely. What is held to its form can be read; whether it is true is another matter.
    """

    prompt: str
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)
    form: str = ""

    @cached_property
    def id(self) -> str:
        """A hash of everything in it."""
        return digest(self.prompt, dict(self.data), *([self.form] if self.form else []))


@dataclass(frozen=True)
class Outcome:
    """What an agent produced for a case: text, or `data` with a description of it in words, or both.

    `tokens` and `logprobs` are the sampled ids and their log-probabilities under the policy that sampled
    them (nats), including the end-of-text token if it was reached: stored, never re-tokenized.

    `data`: what the outcome is where it is not text (an action, a trajectory): JSON-able, a part of its identity, and
    kept by the store as it is. `around`: the blanks that a language model wrote before and after the text, which `text`
    leaves out. Derive nothing from this class: a subclass's own fields have no place in the store,
    which refuses them.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finished: bool = True
    data: Annotated[Mapping[str, Any] | None, Kept(exclude_if=lambda data: data is None)] = field(
        default=None, hash=False
    )
    around: Annotated[tuple[str, str], Kept(exclude_if=lambda around: around == ("", ""))] = ("", "")

    @cached_property
    def id(self) -> str:
        """A hash of all but the log-probabilities; the blanks around its text are in its tokens, if it has any."""
        around = [] if self.tokens or self.around == ("", "") else [list(self.around)]
        return digest(self.text, list(self.tokens), *([] if self.data is None else [dict(self.data)]), *around)

    @cached_property
    def content(self) -> str:
        """A hash of what a judge can tell apart: the same text in other tokens is another `id` and the same content;
        and so is the same part of another outcome."""
        return digest(self.text, *([] if self.data is None or CUT_FROM in self.data else [dict(self.data)]))

    @property
    def shown(self) -> str:
        """The one rendering of it for people, and for models that read words."""
        return rendering(self.text, self.data)

    @property
    def whole(self) -> str:
        """As it was written, blanks and all: behind its case's prompt it is what a model read."""
        return f"{self.around[0]}{self.shown}{self.around[1]}"


def trimmed(written: str) -> tuple[str, tuple[str, str]]:
    """A text as a model wrote it, as an outcome's `text` and `around`."""
    text = written.strip()
    lead = written[: len(written) - len(written.lstrip())]
    return text, (lead, written[len(lead) + len(text) :])


def worth(truths: Iterable[tuple[str, bool]]) -> float:
    """The true score of an outcome, 0 to 1: the mean over its aspects of the share of facts that are true. truths: of
    each fact its aspect, and whether it is true; there is one or more."""
    by: dict[str, list[bool]] = {}
    for aspect, true in truths:
        by.setdefault(aspect, []).append(true)
    shares = [sum(some) / len(some) for some in by.values()]
    return sum(shares) / len(shares)


def rendering(text: str, data: Mapping[str, Any] | None) -> str:
    """An outcome in words: its text, which describes its data, or, without any, the data as JSON."""
    return text if text or data is None else json.dumps(data, ensure_ascii=False, sort_keys=True, indent=1)


@dataclass(frozen=True)
class Group:
    """One case, the outcomes sampled for it, and (once examined) the assistance on each of them."""

    case: Case
    outcomes: tuple[Outcome, ...]
    assistance: tuple[tuple[Assistance, ...], ...] = ()

    def seen(self, index: int) -> tuple[Assistance, ...]:
        """The assistance on outcome `index`; empty if nobody examined it."""
        return self.assistance[index] if self.assistance else ()


# --- facts -------------------------------------------------------------------------------------------


class Sealed:
    """A truth nobody may read by accident: only `rrm.users.bounded.Attention` (paid for) and `rrm.measure` open it."""

    __slots__ = ("_value",)

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        raise SealedOracle(
            "the truth of a fact was read outside a paid check; judge through Attention.check(fact), "
            "or measure with rrm.measure"
        )

    def __eq__(self, other: object) -> bool:
        return bool(self)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return "<sealed>"


def unseal(sealed: Sealed) -> bool:
    """Open a sealed truth. Called by `Attention.check` and by `rrm.measure` alone; a test enforces it."""
    return sealed._value


@dataclass(frozen=True)
class Fact:
    """One checkable thing that is true or false of an outcome.

    A fact has a matter: its own sealed truth, or, if it is composite, the conjunction of its parts. It
    claims that the matter holds (`claims=True`) or that it does not (a critic's "step 2 is wrong"), and is
    true if the claim is. A critique's fact about a fact of the criticized outcome carries its name: the
    two have one matter, and that is how an answer can be followed down the tree.
    """

    name: str
    aspect: str
    truth: Sealed | None = None
    cost: int = 1
    parts: tuple[Fact, ...] = ()
    claims: bool = True

    @property
    def price(self) -> int:
        """Attention needed to settle the fact outright."""
        return sum(part.price for part in self.parts) if self.parts else self.cost


@dataclass(frozen=True)
class Finding:
    """What an answer says of the matter of one fact: it holds or not, and which part betrays it."""

    fact: str
    holds: bool
    part: int | None = None
    note: str = ""
    """In words, what betrays it ("teh"); for people, and for models that read words."""


# --- assistance -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What an assistant answered to one case, and what its own assistants said of that answer."""

    case: Case
    outcome: Outcome
    findings: tuple[Finding, ...]
    confidence: float | None
    """How good its reward model thinks the answer, 0 to 1 (0.5: as its training outcomes); None if unasked."""
    below: tuple[Assistance, ...] = ()
    unreadable: str = ""
    """Why the answer could not be read; then there are no findings, and it counts as N/A."""


@dataclass(frozen=True)
class Assistance:
    """An assistant's answers about one outcome: what they point at, with which confidence, or N/A."""

    assistant: str
    version: str
    answers: tuple[Answer, ...]

    @property
    def name(self) -> str:
        """The last part of the assistant's path."""
        return self.assistant.rsplit("/", 1)[-1]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all its answers."""
        return tuple(finding for answer in self.answers for finding in answer.findings)

    @property
    def below(self) -> tuple[Assistance, ...]:
        """What was said of all its answers."""
        return tuple(sub for answer in self.answers for sub in answer.below)

    @property
    def na(self) -> bool:
        """Nothing to judge, or nothing readable."""
        return not self.findings

    @property
    def why(self) -> str:
        """Why it is N/A, if somebody was asked and gave nothing readable."""
        return "; ".join(a.unreadable for a in self.answers if a.unreadable) if self.na else ""

    @property
    def text(self) -> str:
        """As the reward model and a model user read it: "proofs wrong step1 ( steps wrong step1 )"."""
        below = " ".join(sub.text for sub in self.below if not (self.na and sub.na))
        said = f" ( {below} )" if below else ""  # a tool's evidence stands where the critic above it says nothing
        if self.na:
            return f"{self.name} N/A{said}"
        wrong = " ".join(f"wrong {f.fact}{_noted(f)}" for f in self.findings if not f.holds)
        right = f"right{''.join(map(_noted, self.findings))}"
        return f"{self.name} {wrong or right}{said}"

    def tree(self) -> tuple[Assistance, ...]:
        """This assistance and all that was said of its answers, outermost first."""
        return (self, *(a for sub in self.below for a in sub.tree()))


def _noted(finding: Finding) -> str:
    return f" ({finding.note})" if finding.note else ""
