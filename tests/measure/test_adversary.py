"""Who misleads, before users who read answers, follow them down, know their makers from elsewhere, or play them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from rrm import Assistant, BoundedUser, Case, Finding, Group, Outcome, Pair, Task
from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison
from rrm.core.records import Answer, Assistance
from rrm.core.task import assist
from rrm.core.validation import plant
from rrm.measure.adversary import Misleading, contrary, mislead
from rrm.measure.arms import HeldOut
from rrm.measure.experiment import agreement, packed
from rrm.measure.experiments import budget, exhaustiveness, propagation
from rrm.measure.flat_critic import ASKS, critic
from rrm.measure.mistakes import disputed, spoiled, voted
from rrm.measure.oracle import true_score
from rrm.measure.oversight import another, everything, exchanged, judged, placebo, rewritten
from rrm.measure.stage import Material, Stage
from rrm.measure.users import finished_in, plays
from rrm.store.store import Store
from rrm.users.retelling import WITHHELD, claiming
from rrm.worlds.games import Pile, PlayoutUser, behind, case_of
from rrm.worlds.games.game import after, wins
from rrm_tasks.moves import moves
from tests import toy
from tests.test_descent import CAN, CRITIC, TREE, asked, assistance, at_own_node, judged_there

# --- a user who follows answers down ------------------------------------------------------------------


def material(kind: str, n: int = 200) -> Material:
    """`asked` as held-out pairs; the sound one first in every other."""
    groups, pairs, truth = [], [], []
    for k, pair in enumerate(asked(kind, n)):
        groups.append(Group(pair.case, (pair.a, pair.b), (pair.assistance_a, pair.assistance_b)))
        pairs.append((k, 0, 1))
        truth.append(float(pair.a.text.startswith("good")))
    return Material(HeldOut(groups, pairs, truth), HeldOut([], [], []))


TRUE = material("truthful")
FOLLOWS = BoundedUser(**CAN, descent=2)


def right(user: BoundedUser, some: Material, show: Any = everything, task: Task = TREE) -> float:
    return agreement([packed(judged(task, another(user), some, show))])["mean"]


def test_a_placebo_is_free_of_truth_for_who_follows_answers_down() -> None:
    show = placebo(TRUE, 0)
    assert right(FOLLOWS, TRUE) > 0.99
    assert 0.45 < right(FOLLOWS, TRUE, show) < 0.55
    verdicts = judged(TREE, another(FOLLOWS), TRUE, show)
    assert sum(verdict.attention for verdict in verdicts) > 0, "reading is paid for"
    open_to_all = [another(FOLLOWS).judge(TREE, show(Pair.of(TREE.path, g, 0, 1))) for g in TRUE.held.groups]
    told = zip(open_to_all, TRUE.held.truth, strict=True)
    leak = sum(1 - abs(truth - cast(float, one.preference)) for one, truth in told) / len(open_to_all)
    assert leak > 0.6, "what its answers say themselves would tell the truth"


def test_an_answer_that_was_changed_neither_stands_nor_falls_and_others_stand() -> None:
    def wrong(by: str, g: int, i: int, f: Finding) -> Finding:
        return replace(f, holds=not f.holds, part=None)

    def half(by: str, g: int, i: int, f: Finding) -> Finding:
        return f if g % 2 else wrong(by, g, i, f)

    verdicts = judged(TREE, another(FOLLOWS), TRUE.each(lambda some: rewritten(some, wrong)))
    assert {verdict.preference for verdict in verdicts} == {0.5} and all(v.attention for v in verdicts)
    verdicts = judged(TREE, another(FOLLOWS), TRUE.each(lambda some: rewritten(some, half)))
    for g, verdict in enumerate(verdicts):
        assert verdict.preference == (verdict.truth if g % 2 else 0.5)


def test_without_descent_nobody_can_tell_a_withheld_answer() -> None:
    def wrong(by: str, g: int, i: int, f: Finding) -> Finding:
        return replace(f, holds=not f.holds, part=None)

    plain = BoundedUser(attention=10, error=0.0)
    changed = TRUE.each(lambda some: rewritten(some, wrong))
    open_to_all = changed.each(lambda some: replace(some, groups=[unmarked(group) for group in some.groups]))
    assert packed(judged(TREE, another(plain), changed)) == packed(judged(TREE, another(plain), open_to_all))


def unmarked(group: Group) -> Group:
    def of(a: Assistance) -> Assistance:
        return replace(a, answers=tuple(
            replace(x, outcome=replace(x.outcome, data=None), below=tuple(map(of, x.below))) for x in a.answers
        ))  # fmt: skip

    return replace(group, assistance=tuple(tuple(map(of, side)) for side in group.assistance))


def marks(side: Sequence[Assistance]) -> list[bool]:
    """Which answers, down the tree, are withheld."""
    return [bool(x.outcome.data and WITHHELD in x.outcome.data) for top in side for a in top.tree() for x in a.answers]


def test_only_what_says_something_else_is_withheld() -> None:
    (one,) = assistance(Outcome("bad 1"), "truthful")
    assert marks([one]) == marks([mislead(one, 0.0)]) == [False, False] and mislead(one, 0.0) == one
    assert marks([mislead(one)]) == [True, True]
    answer = one.below[0].answers[0]
    (finding,) = answer.findings
    assert claiming(answer, (replace(finding, part=None),)).outcome == answer.outcome, "where it points is no matter"
    assert claiming(answer, ()).outcome == answer.outcome
    spoilt = spoiled(TREE, TRUE.held, CRITIC.path, "random", 0.5, 0)
    marked = [marks(side) for group in spoilt.groups for side in group.assistance]
    assert {tuple(row) for row in marked} == {(True, False), (False, False)}
    members = [TRUE.held, TRUE.held, spoilt]
    assert marks(voted(members, CRITIC.path).groups[0].seen(0)) == [False]
    for group in disputed(members[1:], CRITIC.path).groups:
        for side in group.assistance:
            first, against = side
            assert marks([first]) == [False] and marks([against]) == [bool(against.findings)]


def test_a_finished_assistant_that_misleads_gives_nothing_to_read() -> None:
    class Known:
        version, repeatable = "1", True

        def sample(self, cases: Sequence[Case], n: int, *_: Any, **__: Any) -> list[Group]:
            return [Group(case, (Outcome("holds" if "good" in case.prompt else "wrong"),) * n) for case in cases]

    def framed(case: Case, outcome: Outcome) -> list[Case]:
        return [Case(outcome.text, {"parts": [True, True, outcome.text.startswith("good"), True]})]

    honest = Assistant(replace(CRITIC, frame=framed, assistants=()), cast(Any, Known()), None)
    cheap = {"attention": 14, "descent": 1}  # a verdict costs four, and the fact itself, here, nine
    dear = replace(TREE, facts=lambda c, o: [replace(f, cost=9) for f in TREE.facts(c, o)])
    bare = TRUE.each(lambda some: replace(some, groups=[replace(g, assistance=()) for g in some.groups]))
    assert right(BoundedUser(**{**CAN, **cheap}), bare.assisted([honest]), task=dear) > 0.99
    verdicts = judged(dear, BoundedUser(**{**CAN, **cheap}), bare.assisted([Misleading.of(honest)]))
    assert {verdict.preference for verdict in verdicts} == {0.5} and all(v.attention == 2 for v in verdicts)


def test_assistants_of_another_tree_can_be_followed() -> None:
    """One flat critic, say: the tree that was asked for does not know it."""
    other = replace(CRITIC, name="other", path="t/other")
    groups = [
        replace(g, assistance=tuple(tuple(replace(a, assistant="t/other") for a in side) for side in g.assistance))
        for g in TRUE.held.groups
    ]
    strangers = Material(replace(TRUE.held, groups=groups), TRUE.practice)
    assert right(FOLLOWS, strangers) == 0.5
    known = replace(strangers, helpers=(Assistant(other, cast(Any, None), None),))
    assert right(FOLLOWS, known) > 0.99
    assert known.each(lambda some: some).helpers == known.helpers


# --- a user who knows assistants from their own nodes -------------------------------------------------


@pytest.fixture
def known(tmp_path: Path) -> Assistant:
    """The critic, in whose store it was judged, and found right, twenty times."""
    store, judge = Store(tmp_path / "run.db"), judged_there("right", 0)
    for i in range(20):
        pair = at_own_node("right", i)
        store.add(Comparison(pair, judge.judge(CRITIC, pair), 0, judge.name), i)
    return Assistant(CRITIC, cast(Any, None), None, (), store)


def test_who_judges_knows_the_assistants_who_speak_if_they_can(known: Assistant) -> None:
    met = replace(TRUE, helpers=(known,))
    knows = BoundedUser(**CAN, own_record=True)
    assert right(knows, TRUE) == 0.5 and right(knows, met) > 0.99
    for off in (BoundedUser(**CAN), BoundedUser(attention=10), FOLLOWS):
        assert judged(TREE, another(off), met) == judged(TREE, another(off), TRUE), "off, nothing changes"


def test_who_trains_a_tree_knows_those_in_it_that_are_finished(known: Assistant, monkeypatch: Any) -> None:
    met: list[Any] = []
    monkeypatch.setattr("rrm.measure.stage.train", lambda task, user, *_: met.append(user))
    deep = toy.task(assistants=(toy.sub("a", assistants=(replace(known, helpers=()),)), toy.sub("b")))
    assert [*finished_in(deep)] == [replace(known, helpers=())]
    for on in (False, True):
        stage = Stage(deep, cast(Any, None), lambda on=on: BoundedUser(**CAN, own_record=on), 0, Path())
        stage.train("x", deep)
        stranger = BoundedUser(**CAN, own_record=on).trust(TREE.path, CRITIC.path, True)
        assert (met[-1].trust(TREE.path, CRITIC.path, True) > stranger) == on


# --- a user who plays the answers ---------------------------------------------------------------------

LEVELS = 3
CHAIN = plant(moves(Pile(), levels=LEVELS))
EXACT = PlayoutUser(exact=True)


@dataclass(frozen=True)
class Player:
    """Makes the best move, if `good`; else offers all of them, in turn."""

    good: bool
    repeatable: bool = True

    @property
    def version(self) -> str:
        return str(self.good)

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        found = []
        for case in cases:
            steps = after(*behind(case))
            order = sorted(steps, key=lambda move: wins(behind(case)[0], steps[move])) if self.good else list(steps)
            found.append(Group(case, tuple(Outcome(order[0 if self.good else k % len(order)]) for k in range(n))))
        return found


def chain(task: Task = CHAIN) -> tuple[Assistant, ...]:
    """Finished replies that are the best, at all levels."""
    return tuple(Assistant(sub, cast(Any, Player(True)), None, chain(sub)) for sub in task.subtasks)


def options(task: Task) -> Any:
    return Player(False)


def games() -> Material:
    """Every pair of a winning and a losing move from positions of the pile."""
    groups, pairs, truth = [], [], []
    for stones in range(5, 22):
        case = case_of(Pile(), (stones,))
        outcomes = tuple(Outcome(move) for move in after(*behind(case)))
        good = [true_score(CHAIN, case, outcome) for outcome in outcomes]
        for i in range(3):
            for j in range(3):
                if i < j and good[i] != good[j]:
                    pairs.append((len(groups), i, j))
                    truth.append(float(good[i] > good[j]))
        groups.append(Group(case, outcomes))
    return Material(HeldOut(groups, pairs, truth), HeldOut([], [], []))


BARE = games()


def rate(helpers: Sequence[Assistant], show: Any = everything) -> float:
    return agreement([packed(judged(CHAIN, EXACT, BARE.assisted(helpers), show))])["mean"]


def said(helpers: Sequence[Assistant], level: int = 0) -> list[Answer]:
    groups = assist(helpers, BARE.held.groups)
    side = [a for g in groups for i in range(len(g.outcomes)) for a in g.seen(i)]
    for _ in range(level):
        side = [sub for a in side for sub in a.below]
    return [answer for a in side for answer in a.answers]


def scores(helpers: Sequence[Assistant], level: int = 0) -> list[float]:
    return [true_score(CHAIN, answer.case, answer.outcome) for answer in said(helpers, level)]


def test_worst_replies_help_the_side_that_they_should_test() -> None:
    honest, worst = chain(), tuple(contrary(one, options) for one in chain())
    lazy = tuple(contrary(one, options, worst=False) for one in chain())
    assert plays(EXACT) and not plays(BoundedUser())
    alone = agreement([packed(judged(CHAIN, EXACT, BARE))])["mean"]
    assert rate(worst) < alone < rate(honest) and rate(worst) < rate(lazy) < rate(honest)
    assert sum(scores(worst)) == 0 < sum(scores(lazy)) < sum(scores(honest)), "a losing reply is always there"
    assert scores(worst, 1) == [1.0] * len(scores(worst, 1)), "those below are honest: a losing reply is refuted"
    every = tuple(contrary(one, options, below=True) for one in chain())
    assert scores(every) == scores(worst) and sum(scores(every, 1)) < 0.5 * sum(scores(worst, 1))


def test_a_share_of_the_answers_is_exchanged_and_a_larger_one_holds_the_smaller() -> None:
    honest = said(chain())
    changed: list[set[str]] = []
    for share in (0.0, 0.25, 0.5, 1.0):
        now = said(tuple(contrary(one, options, share) for one in chain()))
        changed.append({a.case.id for a, b in zip(now, honest, strict=True) if a.outcome != b.outcome})
    assert not changed[0] and changed[0] < changed[1] < changed[2] < changed[3]
    versions = {contrary(chain()[0], options, share).version for share in (0.0, 0.5, 1.0)}
    assert len(versions) == 3
    (one,) = (contrary(one, options) for one in chain())
    drafts = one.agent.sample([case_of(Pile(), (7,))], 4, "any key")[0].outcomes
    assert len(set(drafts)) == 1, "or its reward model would choose a better one"


def test_exchanged_answers_are_legal_whole_and_of_the_same_assistants() -> None:
    deep = BARE.assisted(chain())
    show = exchanged(CHAIN, deep, 0)
    alike = total = 0
    for group in deep.held.groups:
        pair = Pair.of(CHAIN.path, group, 0, len(group.outcomes) - 1)
        for before, now in zip(pair.assistance_a, show(pair).assistance_a, strict=True):
            assert before.assistant == now.assistant and before.version == now.version
            assert len(before.answers) == len(now.answers)
            for a, b in zip(before.answers, now.answers, strict=True):
                assert a.case == b.case and b.outcome.text in after(*behind(b.case))
                alike += a.outcome == b.outcome
                total += 1
                for below in (x for sub in b.below for x in sub.answers):
                    assert below.outcome.text in after(*behind(below.case)), "asked about the answer that was drawn"
    assert 0 < alike < 0.7 * total
    assert show(pair) == show(pair) and rate(chain(), show) < rate(chain()) - 0.1


def test_a_flat_critic_has_the_cases_its_assistants_have() -> None:
    flat = critic(CHAIN)
    assert flat.cases is not None
    drawn = flat.cases.draw(5, "x")
    assert [case.data[ASKS] for case in drawn] == ["reply"] * 5 and drawn == flat.cases.draw(7, "x")[:5]
    move = Outcome(random.Random(0).choice(list(after(*behind(drawn[0])))))
    assert flat.facts_of(drawn[0], move) and flat.findings_of(drawn[0], move)
    assert critic(plant(moves(Pile(), levels=2, cases="framed"))).cases is None


@pytest.mark.parametrize(
    "experiment, why",
    [(budget, "use the bounded user"), (propagation, "looks at no claims"), (exhaustiveness, "one of several aspects")],
    ids=["budget", "propagation", "exhaustiveness"],
)
def test_what_makes_no_sense_in_a_game_says_so_before_anything_is_trained(experiment: Any, why: str) -> None:
    stage = Stage(CHAIN, cast(Any, None), lambda: EXACT, 0, Path("nowhere"))
    with pytest.raises(RRMError, match=why):
        experiment.run(stage)
    assert not Path("nowhere").exists()
