"""Does your agent, reward model, maker or user keep its contract? Run these checks in your own tests.

    from rrm.testing import check_maker, check_user
    check_maker(MyMaker(), task, user=rrm.BoundedUser())
    check_user(MyUser, task, pairs)

As Stable-Baselines3's `check_env` does for environments: each raises `ContractError`, which says what broke, and how a
run would go wrong with it. The contracts are in `rrm.core.protocols` and `rrm.core.parties`. The checks ask for a few
samples, fits and judgements, so give a small task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import TypeAdapter

from rrm.core.contracts import ContractError, expect
from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.parties import Maker, User
from rrm.core.protocols import Agent, Cases, Learner, Policy, RewardModel
from rrm.core.records import Case, Group, Outcome
from rrm.core.seeding import seed_of
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.core.validation import check
from rrm.store.encoding import written

__all__ = ["ContractError", "check_agent", "check_learner", "check_maker", "check_policy", "check_user"]

CLOSE = 1e-3
"""Most that a score may hang on what else is asked, in standard deviations of scores."""
_group = TypeAdapter(Group)


def check_maker(maker: Maker, task: Task, user: User, seed: int = 0) -> None:
    """Check a maker, the policies and the reward models it makes for `task` (a root with its cases).

    `user` judges a few pairs, for the reward model to learn from.
    """
    expect(maker, Maker, "the maker")
    task = check(task)
    assert task.cases is not None  # checked
    one, same = maker.policy(task, seed), maker.policy(task, seed)
    expect(one, Policy, "what maker.policy makes")
    _demand(one.version == same.version, "two policies made for the same task and seed differ, so no run would resume")
    check_policy(one, task.cases, task.settings)
    _demand(same.version == maker.policy(task, seed).version, "training one policy changed another: they share weights")
    groups = _distinct(same, task)
    pairs = [
        Pair.of(task.path, group, i, j) for group in groups
        for i, j in itertools.combinations(range(len(group.outcomes)), 2)
        if group.outcomes[i].content != group.outcomes[j].content
    ]  # fmt: skip
    comparisons = [Comparison(pair, user.judge(task, pair), 0, user.name) for pair in pairs]
    check_learner(lambda: maker.reward(task, seed), comparisons, groups, task.settings)


def check_agent(agent: Agent, cases: Sequence[Case], n: int = 3, weights: bool = True) -> None:
    """Check what samples. `weights=False` for one without any (a tool, an endpoint): its state is not asked for."""
    expect(agent, Agent, "the agent")
    _demand(agent.sample([], n, "check") == [], "sample([]) must give no groups")
    groups = agent.sample(cases, n, "check")
    _demand(
        [group.case.id for group in groups] == [case.id for case in cases], "sample must give a group a case, in order"
    )
    for group in groups:
        _demand(len(group.outcomes) == n, f"sample(n={n}) gave a group of {len(group.outcomes)} outcomes")
        wrong = [type(outcome).__name__ for outcome in group.outcomes if not isinstance(outcome, Outcome)]
        _demand(not wrong, f"sample gave {wrong[:1]} in an outcome's place; give rrm.Outcome")
        written(_group, group)  # raises StoreError saying what the store would lose
    if agent.repeatable:
        again = agent.sample(cases, n, "check")
        _demand(
            groups == again, "the same (cases, n, key) gave other outcomes; set repeatable = False, or take all "
            "randomness from a generator named by the key (rrm.core.seeding.generator)",
        )  # fmt: skip
        one, other = (agent.sample(cases, n, key, greedy=True) for key in ("check", "other"))
        _demand(one == other, "greedy outcomes hang on the key")
    if weights:
        _check_state(agent, "the agent", lambda: agent.sample(cases, n, "check") if agent.repeatable else None)


def check_policy(policy: Policy, cases: Cases, settings: Settings) -> None:
    """Check what can be optimized. Its weights are afterwards what they were before."""
    expect(policy, Policy, "the policy")
    some = cases.draw(min(4, settings.cases), "check")
    check_agent(policy, some)
    few = settings.model_copy(
        update={"steps": min(2, settings.steps), "batch": min(4, settings.batch), "max_kl": math.inf}
    )
    before, version = policy.state(), policy.version
    steps: list[int] = []

    def log(step: int, metrics: Mapping[str, float]) -> None:
        steps.append(step)
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        _demand(not bad, f"improve logged {', '.join(bad)} that is no finite number")

    report = policy.improve(_judge, cases, few, "check", log)
    _demand(report.steps <= few.steps, f"improve took {report.steps} steps of {few.steps}")
    _demand(steps == sorted(steps) and len(steps) <= few.steps, f"improve logged the steps {steps} of {few.steps}")
    after = policy.version
    changed = any(not torch.equal(value, policy.state()[name]) for name, value in before.items())
    _demand(
        changed == (after != version),
        "improve changed the weights and not `version`, by which answers are remembered" if changed
        else "`version` changed and the weights did not",
    )  # fmt: skip
    policy.load(before)
    _demand(policy.version == version, "load(state()) does not bring the version of before back")
    if policy.repeatable:
        policy.improve(_judge, cases, few, "check", log)
        _demand(policy.version == after, "improve with the same weights, judge and key gave other weights")
        policy.load(before)

    def broken(groups: Sequence[Group]) -> list[torch.Tensor]:
        return [torch.full((len(group.outcomes),), math.nan) for group in groups]

    _raises(
        lambda: policy.improve(broken, cases, few, "check", lambda step, metrics: None),
        "improve took rewards that are not finite; raise an RRMError: a failed judgement is no reward",
    )
    policy.load(before)


def check_learner(
    make: Callable[[], Learner], comparisons: Sequence[Comparison], groups: Sequence[Group], settings: Settings
) -> None:
    """Check a reward model that can be fitted.

    Parameters
    ----------
    make: makes one that is not fitted, the same each time.
    comparisons: with preferences among them.
    groups: to score.
    """
    reward = make()
    expect(reward, Learner, "the reward model")
    _raises(lambda: reward.score(groups), "it scores before it was fitted; raise an RRMError")
    _raises(lambda: reward.state(), "it gives a state before it was fitted; raise an RRMError")
    silent = [Comparison(c.pair, Judgement(None), c.round, c.user) for c in comparisons]
    _raises(lambda: reward.fit(silent, settings, "check"), "it was fitted where nobody preferred anything")
    reward = make()
    report = reward.fit(comparisons, settings, "check")
    _demand(
        report.n + report.n_holdout <= len(comparisons), f"the fit reports {report.n} + {report.n_holdout} comparisons"
    )
    again = make()
    again.fit(comparisons, settings, "check")
    _demand(again.version == reward.version, "the same comparisons and key gave another reward model")
    _check_scores(reward, groups)
    other = make()
    other.load(reward.state())
    _demand(other.version == reward.version, "load(state()) of a fresh reward model gives another version")
    for one, two in zip(reward.score(groups), other.score(groups), strict=True):
        _demand(torch.equal(one.mean, two.mean), "a saved and reloaded reward model gives other scores")
    _check_state(reward, "the reward model", lambda: None)


def check_user(make: Callable[[], User], task: Task, pairs: Sequence[Pair]) -> None:
    """Check who judges. `make` makes one who has judged nothing, the same each time; give at least two pairs.

    After an interruption a user is told of what it judged (`recall`), and must go on as if it had not been interrupted.
    """
    user = make()
    expect(user, User, "the user")
    judged = []
    for pair in pairs:
        judgement = user.judge(task, pair)
        _demand(isinstance(judgement, Judgement), f"judge gave a {type(judgement).__name__}, not an rrm.Judgement")
        preference = judgement.preference
        _demand(
            preference is None or 0 <= preference <= 1,
            f"a preference of {preference}: it is 1 (A is better) to 0 (B is), 0.5 a tie, None no judgement",
        )
        judged.append(judgement)
    half = len(pairs) // 2
    resumed = make()
    for judgement in judged[:half]:
        resumed.recall(task, judgement)
    after = [resumed.judge(task, pair) for pair in pairs[half:]]
    same = [one.preference == two.preference for one, two in zip(after, judged[half:], strict=True)]
    _demand(
        all(same), f"after recalling {half} judgements it judged {same.count(False)} of {len(same)} pairs otherwise "
        "than it did uninterrupted: `recall` must leave it as `judge` did, and nothing else may decide (the time, a "
        "random stream that goes on)",
    )  # fmt: skip


# --- pieces ------------------------------------------------------------------------------------------


def _judge(groups: Sequence[Group]) -> list[torch.Tensor]:
    """Rewards that tell outcomes apart by their content, with neither sense nor chance."""
    return [
        torch.tensor([seed_of("reward", outcome.content) / 2**62 - 1 for outcome in group.outcomes])
        for group in groups
    ]


def _distinct(agent: Agent, task: Task) -> list[Group]:
    """Groups with outcomes to compare."""
    assert task.cases is not None
    drawn = task.cases.draw(min(8, task.settings.cases), "check pairs")
    groups = agent.sample(drawn, 4, "check pairs")
    _demand(
        any(len({outcome.content for outcome in group.outcomes}) > 1 for group in groups),
        "all outcomes of a starting policy are alike, so there would be nothing to compare",
    )
    return groups


def _check_scores(reward: RewardModel, groups: Sequence[Group]) -> None:
    together = reward.score(groups)
    _demand(len(together) == len(groups), f"{len(groups)} groups were scored as {len(together)}")
    for group, scores in zip(groups, together, strict=True):
        n = len(group.outcomes)
        shapes = (tuple(scores.mean.shape), tuple(scores.std.shape), tuple(scores.heads.shape))
        _demand(
            shapes[:2] == ((n,), (n,)) and len(shapes[2]) == 2 and shapes[2][0] == n,
            f"scores of {n} outcomes have the shapes {shapes}, not ({n},), ({n},) and ({n}, heads)",
        )
        finite = all(bool(part.isfinite().all()) for part in (scores.mean, scores.std, scores.heads))
        _demand(finite and bool((scores.std >= 0).all()), "scores are not finite, or a spread is negative")
        (alone,) = reward.score([group])
        error = (alone.mean - scores.mean).abs().max().item()
        _demand(error < CLOSE, f"a group's scores differ by {error:.3g} when it is scored alone")


def _check_state(thing: Agent | RewardModel, what: str, look: Callable[[], object]) -> None:
    before, seen, version = thing.state(), look(), thing.version
    good = [name for name, value in before.items() if isinstance(value, torch.Tensor) and value.device.type == "cpu"]
    wrong = [name for name in before if name not in good]
    _demand(not wrong, f"{what}'s state has {', '.join(wrong)}, which is no tensor on the CPU")
    for value in thing.state().values():
        value.fill_(7)
    _demand(thing.version == version, f"{what}'s state() is no copy: changing it changed {what}")
    thing.load(before)
    _demand(thing.version == version and look() == seen, f"{what} is another after load(state())")
    if before:
        missing = dict(itertools.islice(before.items(), 1, None))
        _raises(lambda: thing.load(missing), f"{what} loads a state that lacks a key; no weight may be made up")
    _raises(
        lambda: thing.load({**before, "no such key": torch.zeros(1)}),
        f"{what} loads a state with a key that it does not know; raise an RRMError",
    )
    thing.load(before)


def _raises(call: Callable[[], object], otherwise: str) -> None:
    """Demand that a call raises an `RRMError`."""
    try:
        call()
    except RRMError:
        return
    raise ContractError(otherwise)


def _demand(kept: bool, otherwise: str) -> None:
    if not kept:
        raise ContractError(otherwise)
