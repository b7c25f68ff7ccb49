"""A node's outcomes: drawn, sampled, kept where they could not be sampled again, and looked at for their form."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rrm.core import border
from rrm.core.contracts import ContractError
from rrm.core.errors import Notice, RRMError
from rrm.core.judgements import ImproveReport
from rrm.core.parties import Dividing
from rrm.core.parts import part_case
from rrm.core.protocols import Cases
from rrm.core.records import Case, Group
from rrm.core.seeding import seed_of
from rrm.core.task import Assistant, Task
from rrm.loop import taught
from rrm.loop.accounting import count
from rrm.loop.cautious import CautiousJudge
from rrm.loop.state import NodeState

UNBOUNDED = 1e9
"""Nats of KL that no optimization reaches."""


def to_judge(node: NodeState, cases: Cases, helpers: Sequence[Assistant] = ()) -> list[Group]:
    """Outcomes of the agent as it is now, such as `settings.explore` and `settings.adversary` ask for, and behind them
    the parts of all of these, for `settings.parts`. Raises `RRMError` if hardly any of its own has the form that the
    task asks for."""
    s = node.task.settings
    drawn = _drawn(node, cases, s.cases, "cases")  # by all processes: whoever watches may draw, too, and alone
    node.emit("sample", of=s.cases)
    adversarial = s.adversarial if node.round else 0  # before, there is no reward model
    groups = _sample(node, drawn, s.outcomes - s.explored - adversarial, "sample")
    if s.explored:
        with node.as_it_started():
            groups = _beside(groups, _sample(node, drawn, s.explored, "explore"))
    count(node, "to judge")
    _check_form(node, groups)
    if adversarial:
        with as_an_adversary(node, cases, helpers):
            groups = _beside(groups, _sample(node, drawn, adversarial, "adversary"))
        count(node, "adversary")
    return [*groups, *_parts(node, groups)]


def _parts(node: NodeState, groups: Sequence[Group]) -> list[Group]:
    """A part of each outcome, if `settings.parts` asks for any: as the task divides them, or else its agent."""
    s = node.task.settings
    if not s.partial:
        return []
    dividing(node)
    if node.task.divide is not None:
        found = divided(node.task, groups, node.key("parts"))
        if not found:
            warnings.warn(
                f"{node.task.path}: parts={s.parts}, and no two outcomes of a case have a part of one name that "
                f"differs, in round {node.round}; only whole ones are asked about (its divide, and its locate, say "
                "which parts there are)", Notice, stacklevel=2,
            )  # fmt: skip
    else:
        assert isinstance(node.agent, Dividing)
        found = node.agent.divide(groups, s.part_steps, node.key("parts"))
        for whole, parts in zip(groups, found, strict=True):
            border.sampled([parts], [parts.case], len(whole.outcomes), f"{node.task.path}: the agent's divide")
    node.parted = frozenset(group.case.id for group in found)
    if shared := node.parted & {group.case.id for group in groups}:
        raise ContractError(f"{node.task.path}: the agent's divide gave parts in {len(shared)} cases of whole outcomes")
    return found


def divided(task: Task, groups: Sequence[Group], key: str) -> list[Group]:
    """Of each group, those parts of its outcomes that have one name, drawn by `key` among the names whose parts differ;
    of a group without any, none."""
    found = []
    for number, group in enumerate(groups):
        parts = [task.divided(group.case, outcome) for outcome in group.outcomes]
        kinds = {name: {one[name].content for one in parts if name in one} for own in parts for name in own}
        if names := sorted(name for name, kind in kinds.items() if len(kind) > 1):
            name = names[seed_of("divide", key, group.case.id, number) % len(names)]
            found.append(Group(part_case(group.case, name), tuple(one[name] for one in parts if name in one)))
    return found


def dividing(node: NodeState) -> None:
    """Raise `RRMError` if parts of outcomes are asked for, and neither the task nor its agent divides them."""
    if node.task.settings.parts and node.task.divide is None and not isinstance(node.agent, Dividing):
        raise RRMError(
            f"{node.task.path}: parts={node.task.settings.parts} asks for comparisons of parts of outcomes, its task "
            f"does not say what parts there are, and a {type(node.agent).__name__} cannot divide its own; set parts=0, "
            "give the task divide=..., or let the node act in an environment (rrm.acting, --model ppo)"
        )


def beside_demonstrations(node: NodeState) -> None:
    """The agent's outcomes of the cases of demonstrations, as many as of other cases, kept for this round's fit and all
    later ones (`rrm.loop.taught`)."""
    drawn = taught.drawn_demonstrated(node)
    if drawn:
        found = _sample(node, drawn, node.task.settings.outcomes, taught.DEMONSTRATED)
        node.journal.keep_sampled(node.task.path, node.round, taught.DEMONSTRATED, found)


def _beside(groups: Sequence[Group], more: Sequence[Group]) -> list[Group]:
    return [Group(one.case, (*one.outcomes, *two.outcomes)) for one, two in zip(groups, more, strict=True)]


@contextmanager
def as_an_adversary(node: NodeState, cases: Cases, helpers: Sequence[Assistant]) -> Iterator[None]:
    """Within it the agent is one that was optimized, from what it is, against its reward model with nothing to hold it
    back: `settings.adversary`."""
    now = {name: value.clone() for name, value in node.agent.state().items()}
    s = node.task.settings.model_copy(update={"kl": 0.0, "max_kl": UNBOUNDED, "caution": 0.0})
    report = node.agent.improve(
        CautiousJudge(node, helpers, caution=0.0, holds=False), cases, s, node.key("adversary"),
        lambda step, metrics: None,
    )
    if not isinstance(report, ImproveReport):
        raise ContractError(f"{node.task.path}: improve gave {type(report).__name__}, no ImproveReport")
    kl = ({} if report.kl is None else {"kl": report.kl}) | ({"undone": 1.0} if report.undone else {})
    node.emit("adversary", 0, 0, first_reward=report.first_reward, last_reward=report.last_reward, **kl)
    try:
        yield
    finally:
        node.agent.load(now)


def to_frame(node: NodeState, cases: Cases) -> list[Group]:
    """Further outcomes, from which the subtasks' cases are made."""
    s = node.task.settings
    drawn = _drawn(node, cases, s.cases + s.frame_cases, "frame cases")
    node.emit("frame", of=len(drawn))
    groups = _sample(node, drawn, s.outcomes, "frame")
    count(node, "to frame")
    return groups


def to_accept(node: NodeState, cases: Cases, when: str) -> list[Group]:
    """One outcome each of `accept` cases. The same random numbers before and after (`when`) an improvement: what it
    left as it was comes out as it was, and need not be judged. None in a round in which the user is not asked."""
    s = node.task.settings
    n = s.accept if s.asks(node.round) else 0
    drawn = _drawn(node, cases, n, "accept cases") if n else []
    groups = _sample(node, drawn, 1, "accept", when)
    count(node, f"accept {when}")
    return groups


def _drawn(node: NodeState, cases: Cases, n: int, stream: str) -> list[Case]:
    return border.drawn(lambda: cases.draw(n, node.key(stream)), f"cases of {node.task.path!r}", n)


def _sample(node: NodeState, drawn: Sequence[Case], n: int, stream: str, when: str = "") -> list[Group]:
    """Groups of the agent; of one that cannot repeat itself, those that were kept, if an attempt at this round did."""

    def sample() -> list[Group]:
        found = node.agent.sample(drawn, n, key=node.key(stream), temperature=node.task.settings.temperature)
        return border.sampled(found, drawn, n, f"{node.task.path}: the agent's sample(n={n})")

    if node.agent.repeatable or not drawn:
        return sample()
    purpose = f"{stream} {when}".strip()
    kept = node.journal.sampled(node.task.path, node.round, purpose)
    if kept is None:
        kept = node.world.once(sample)  # else every process would have others
        node.journal.keep_sampled(node.task.path, node.round, purpose, kept)
    return kept


def _check_form(node: NodeState, groups: Sequence[Group]) -> None:
    """Is there anything to build on? An agent whose outcomes have no form cannot be judged or improved."""
    faults = [(o, why) for group in groups for o in group.outcomes if (why := node.task.fault(group.case, o))]
    total = sum(len(group.outcomes) for group in groups)
    node.emit("sample", malformed=len(faults) / total)
    if len(faults) > 0.95 * total:
        outcome, why = faults[0]
        raise RRMError(
            f"{node.task.path}: {len(faults)} of {total} outcomes of round {node.round} do not parse, so there is "
            f"nothing to build on. The first: {outcome.shown[:200]!r}: {why}. Use a model that can do this role at all "
            "(pretrain it on such texts), or mend the prompt."
        )
