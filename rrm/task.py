"""The records everything else speaks of: case, outcome, group, fact, task; and the checks of a tree.

A task is a node of the tree (Leike et al. 2018, section 3.2): an instruction, the assistants that help
the user judge its outcomes, and how a user may look at an outcome (its facts and its surface). Nothing
here knows about models: an outcome may be text, or the rendering of a trajectory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from rrm.settings import Settings

if TYPE_CHECKING:
    from rrm.assistance import Assistance, Assistant
    from rrm.tools import Tool


class RRMError(Exception):
    """An error of the user's making or of the world's: says what, where, and how to mend it."""


class TaskError(RRMError, ValueError):
    """The task tree is wrong."""


class Malformed(RRMError, ValueError):
    """An outcome does not parse as what its task asks for."""


class SealedOracle(RRMError, RuntimeError):
    """Something that must not know the truth tried to read it."""


def digest(*parts: Any) -> str:
    """A short content hash of JSON-able parts: the identity of cases, outcomes and pairs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


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
        return digest(self.prompt, dict(self.data), *([self.form] if self.form else []))


@dataclass(frozen=True)
class Outcome:
    """What an agent produced for a case.

    `tokens` and `logprobs` are the sampled ids and their log-probabilities under the policy that sampled
    them (nats), including the end-of-text token if it was reached: stored, never re-tokenized.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finished: bool = True

    @cached_property
    def id(self) -> str:
        return digest(self.text, list(self.tokens))


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
    """A truth nobody may read by accident: only `rrm.user.Attention` (paid for) and `rrm.measure` open it."""

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


# --- cases -------------------------------------------------------------------------------------------


class Cases(Protocol):
    """Where a task's cases come from. `draw` must depend on `key` only, so that a resumed run repeats it."""

    def draw(self, n: int, key: str) -> list[Case]: ...


@dataclass(frozen=True)
class Pool:
    """A finite list of cases, drawn in an order that `key` decides: each once before any comes again."""

    cases: tuple[Case, ...]

    def draw(self, n: int, key: str) -> list[Case]:
        order = sorted(range(len(self.cases)), key=lambda i: digest(key, i))
        return [self.cases[order[i % len(order)]] for i in range(n)] if order else []


# --- tasks -------------------------------------------------------------------------------------------

Frame = Callable[[Case, Outcome], Sequence[Case]]
Facts = Callable[[Case, Outcome], Sequence[Fact]]
Findings = Callable[[Case, Outcome], Sequence[Finding]]
Surface = Callable[[Case, Outcome], Mapping[str, float]]


Spans = Mapping[str, tuple[int, int]]
"""Fact name -> where it is in an outcome's text: first character, and the one after the last."""
Locate = Callable[[Case, Outcome], Spans]


def no_surface(case: Case, outcome: Outcome) -> Mapping[str, float]:
    return {}


def no_spans(case: Case, outcome: Outcome) -> Spans:
    return {}


@dataclass(frozen=True)
class Task:
    """A node of the tree.

    Parameters
    ----------
    name: unique among its siblings; no "/" or ".".
    instruction: what a person is told to judge, in words.
    facts: the checkable facts of an outcome, their truth sealed; raises `Malformed` if it does not parse.
    cases: where cases come from (the root); a subtask has `frame` instead.
    frame: makes this subtask's cases from one outcome of the parent; no cases means N/A.
    findings: reads this task's outcome as claims about the parent outcome's facts; raises `Malformed`.
    surface: named surface features of an outcome that carry no truth (confident words, length).
    locate: where facts and their parts are in an outcome's text, to show what assistants point at; raises
        `Malformed`.
    assistants: subtasks, or finished assistants, that help the user judge this task's outcomes.
    covers: the aspects of the parent that this task assesses (for the exhaustiveness check).
    aspects: the aspects of this task's own outcomes.
    difficulty: a rough size of one evaluation; a subtask must be narrower than its parent (section 3.2).
    tools: the programs that this task's answers rest on; `check` sees that they are there, and a run keeps their
        versions.
    """

    name: str
    instruction: str
    facts: Facts
    cases: Cases | None = None
    frame: Frame | None = None
    findings: Findings | None = None
    surface: Surface = no_surface
    locate: Locate = no_spans
    assistants: tuple[Task | Assistant, ...] = ()
    covers: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    difficulty: float | None = None
    tools: tuple[Tool, ...] = ()
    settings: Settings = field(default_factory=Settings)
    path: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "assistants", tuple(self.assistants))
        if not self.path:
            object.__setattr__(self, "path", self.name)

    @property
    def subtasks(self) -> tuple[Task, ...]:
        """The assistants' tasks, finished or not."""
        return tuple(a if isinstance(a, Task) else a.task for a in self.assistants)

    def walk(self) -> Iterator[Task]:
        """Every task of the tree, children before parents: the order in which nodes are finished."""
        for sub in self.subtasks:
            yield from sub.walk()
        yield self
