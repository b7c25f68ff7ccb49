"""The parties of a run: who judges, who makes what learns, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rrm.core.judgements import Comparison, Event, Judgement, Pair
from rrm.core.parallel import World
from rrm.core.protocols import Agent, Cases, Learner, Policy
from rrm.core.records import Group
from rrm.core.task import Task


class User(Protocol):
    """Judges pairs, one after the other."""

    @property
    def name(self) -> str:
        """Kept with each of its judgements."""

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Which outcome is better. Abstains (a preference of None) or raises where it cannot judge; it never guesses.

        It must depend on the pair, and on what was judged and recalled before, only.
        """

    def recall(self, task: Task, judgement: Judgement) -> None:
        """Hear of a judgement made before an interruption (or in another process): be as if `judge` had made it."""


@runtime_checkable
class Expectant(Protocol):
    """A user who wants to know a round's pairs before the first is judged, and where the run's folder is."""

    def expect(self, task: Task, round: int, pairs: Sequence[Pair], folder: Path) -> None:
        """These pairs of this round will be asked about next, several times a round maybe."""


@runtime_checkable
class Distant(Protocol):
    """A user who is asked through another process, which keeps what it says (`rrm.loop.ahead`)."""

    def put(self, task: Task, pair: Pair, round: int, position: int, purpose: str) -> Comparison:
        """The judgement of a pair, which is kept; of one that was kept before, that."""


@runtime_checkable
class Concurrent(Protocol):
    """A user whom several nodes may ask at once: each call of `judge` waits for its own judgements."""

    concurrent: bool


@runtime_checkable
class Recording(Protocol):
    """A user, a maker, or a finished assistant's agent that keeps records of its own in the run's folder."""

    def record(self, folder: Path) -> None:
        """Keep them there from now on."""


@runtime_checkable
class Naming(Protocol):
    """A maker whose outcomes name files (the arrays of episodes) that lie beside the records of whoever made them."""

    def beside(self, folder: Path) -> AbstractContextManager[None]:
        """Within it, such files are kept in this folder, and found there."""


@runtime_checkable
class Filming(Protocol):
    """A policy whose outcomes can be looked at in pictures, which it keeps in the run's folder."""

    def film(self, task: Task, pairs: Sequence[Pair]) -> None:
        """These pairs are about to be judged. Pictures decide nothing: whatever cannot be shown is judged all the same.
        """


@runtime_checkable
class Dividing(Protocol):
    """A policy whose outcomes have parts, which can be judged as outcomes of their own."""

    def divide(self, groups: Sequence[Group], steps: int, key: str) -> list[Group]:
        """A part of each outcome, of so many steps or all of a shorter one, in the same order; `key` decides where it
        lies. Their cases are no cases of `groups`: a part is judged beside parts. Raises `RRMError` for outcomes that
        have none.
        """


EPISODES, STEPS, IMAGINED = "real episodes", "real steps", "imagined episodes"
UNACCEPTABLE, TAMPERED, FALLBACKS = "unacceptable", "tampered", "fallback steps"
"""What is counted of an agent that acts (`Accountable`)."""
ACTED = "acted"
"""The phase of such metrics; their step is the place of one of `STAGES`."""
STAGES = ("live", "to frame", "to judge", "adversary", "own steps", "accept before", "accept after")
"""What an agent acts for: a planning one learns of it (`rrm.loop.living`); its assistants' cases are made of it; it is
judged; what an adversary tries, and then does; what the policy tries in its improvement; whether that stands, with the
agent of before and with that of after."""


@runtime_checkable
class Accountable(Protocol):
    """A policy that counts what it does where it acts, whoever has it done."""

    def acted(self) -> Mapping[str, float]:
        """What it did since it was last asked, or made: `EPISODES` that it began, their `STEPS`, and in how many
        something `UNACCEPTABLE` happened, or what its judges see was `TAMPERED` with, if anything there says what that
        is; `FALLBACKS`, if it falls back on a safe action, in how many steps; `IMAGINED` episodes only if there are
        any, which are none of these. Empty: nothing."""

    def looked_at(self) -> AbstractContextManager[None]:
        """Within it somebody looks at what it does (a watcher): it acts for real, and that is not counted."""


@runtime_checkable
class Imagining(Protocol):
    """A policy that can act in a model of where it acts, which it learns of what it did there."""

    @property
    def lives(self) -> int:
        """How many outcomes it wants to be real in each round, to learn the model of; 0: it uses no such model."""

    def imagine(self, real: Sequence[Group]) -> None:
        """Act from now on in a model learned of these outcomes, whatever weights are loaded; of none: for real."""


class Maker(Protocol):
    """Makes, for a task, what learns it: a policy, and a reward model of the user's judgement of its outcomes.

    The two are made anew for each node of the tree. `rrm.learning.text_maker.TextMaker` makes them over a
    language model.
    """

    name: str
    """Kept in the run's config.json; another name is another run."""
    fingerprint: str
    """A hash of what everything starts from (a model's weights): a run is not resumed from another beginning."""
    world: World
    """The processes that compute together; `rrm.train` sets it. Alone: `World()`."""

    def policy(self, task: Task, seed: int) -> Policy:
        """The starting policy. What is random in it depends on the task's path and the seed only."""

    def reward(self, task: Task, seed: int) -> Learner:
        """A reward model that is not fitted. What is random in it depends on the task's path and the seed only."""


@runtime_checkable
class Deciding(Protocol):
    """A maker that decides something when a run begins, which must be so whenever it is resumed: the bits hang on it.
    """

    def decide(self, before: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Adopt what was decided `before` (None: decide now); returns it, JSON-able, to be kept in config.json."""


@runtime_checkable
class Computing(Protocol):
    """A maker that can say in words how it computes, once that is decided: "bfloat16 on cpu, as ..."."""

    @property
    def computing(self) -> str:
        """In a line."""


@runtime_checkable
class Informed(Protocol):
    """A watcher who wants to hear that line before the first event of a run."""

    def informed(self, computing: str) -> None:
        """It begins; `computing` is empty for a maker that says nothing of it."""


class Watched(Protocol):
    """A node as a watcher sees it."""

    task: Task
    round: int
    cases: Cases | None
    """None before its first sample."""

    @property
    def comparisons(self) -> list[Comparison]:
        """All of the node's so far."""

    @property
    def agent(self) -> Agent:
        """Its policy as it is now."""

    def key(self, *parts: object) -> str:
        """A name for a random stream at this node and round."""

    def emit(self, phase: str, step: int = 0, of: int = 0, **metrics: float) -> None:
        """Keep metrics, and tell all watchers."""

    def history(self) -> list[tuple[int, str, int, str, float]]:
        """(round, phase, step, name, value) of this node's metrics so far."""


Watch = Callable[[Watched, Event], None]
"""Called, in the main process, when something happens at a node."""
