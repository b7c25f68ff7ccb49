"""An agent that is no language model trains, resumes and shows like one that is; one that cannot repeat itself, too."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import rrm
from rrm.core.contracts import ContractError
from rrm.view.inspect import show_node, show_tree
from rrm.view.reading import Reader
from tests.bandits import Impatient, Interrupted, example
from tests.test_resume import contents
from tests.view.test_pages import open_app

BANDIT = example("custom_agent")


class Moody(BANDIT.Bandit):  # type: ignore[name-defined, misc]
    """Never gives the same outcomes twice, as a server or a real environment would not."""

    repeatable = False
    chance = random.SystemRandom()

    def sample(self, cases: Sequence[rrm.Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False):
        return super().sample(cases, n, f"{key}/{self.chance.random()}", temperature, greedy)


class Moods(BANDIT.Bandits):  # type: ignore[name-defined, misc]
    def policy(self, task: rrm.Task, seed: int) -> Moody:
        return Moody()


def test_a_bandit_learns_which_arm_pays(tmp_path: Path) -> None:
    root = rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    (group,) = root.agent.sample([rrm.Case("machine")], 200, key="look")
    assert sum(BANDIT.arm_of(outcome) == 2 for outcome in group.outcomes) > 120, "a third of 200 at the start"


@pytest.mark.parametrize("maker", [BANDIT.Bandits, Moods])
def test_interrupted_anywhere_it_asks_nothing_twice_and_orphans_no_judgement(tmp_path: Path, maker: Any) -> None:
    whole = Impatient(attention=4)
    rrm.train(BANDIT.pull, whole, maker(), tmp_path / "whole")
    total = whole.asked.total()
    for patience in {1, total // 3, total - 1, *random.Random(0).sample(range(total), 4)}:
        out, first = tmp_path / f"{patience}", Impatient(attention=4, patience=patience)
        with suppress(Interrupted):
            rrm.train(BANDIT.pull, first, maker(), out)
        second = Impatient(attention=4)
        rrm.train(BANDIT.pull, second, maker(), out)
        found = contents(out)
        kept = Counter(row[3] for row in found["judgements"])  # a pair once a round, however often it was asked
        assert kept == first.asked + second.asked, "a pair was asked about twice, or a judgement was lost"
        if maker is BANDIT.Bandits:
            assert found == contents(tmp_path / "whole"), "not the bits of an undisturbed run"
        else:  # every judgement is of outcomes that the run sampled, and none was left behind
            db = sqlite3.connect(out / "run.db")
            kinds = [row[0] for row in db.execute("SELECT purpose FROM samples WHERE round = 1 ORDER BY purpose")]
            assert kinds == ["accept after", "accept before", "sample"]
            assert db.execute("SELECT COUNT(*) FROM checkpoints WHERE part = 'candidate'").fetchone() == (2,)
            rounds = {row[1] for row in found["judgements"]}
            positions = Counter((row[1], row[2]) for row in found["judgements"])
            most = {round: max(position for r, position in positions if r == round) for round in rounds}
            assert all(most[round] < BANDIT.pull.settings.comparisons for round in rounds)


def test_a_repeatable_agent_s_outcomes_are_not_kept_twice(tmp_path: Path) -> None:
    rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    assert sqlite3.connect(tmp_path / "run.db").execute("SELECT COUNT(*) FROM samples").fetchone() == (0,)


def test_it_shows_in_the_terminal_and_on_the_pages(tmp_path: Path) -> None:
    rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    console = Console(file=StringIO(), width=120)
    with Reader(tmp_path) as run, console.capture() as capture:
        show_tree(run, console)
        show_node(run, "pull", console, "all", "", 0, 5)
    said = capture.get()
    assert "pull" in said and '"arm": "right"' in said
    with open_app(tmp_path) as client:
        assert client.get(f"/r/{tmp_path.name}/node/pull").status_code == 200
        assert "&#34;arm&#34;" in client.get(f"/r/{tmp_path.name}/c/1").text


# --- what is refused, and how -------------------------------------------------------------------------


def test_what_is_no_maker_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"model is a Bandit, which has no name, fingerprint.*it must be a Maker"):
        rrm.train(BANDIT.pull, rrm.BoundedUser(), BANDIT.Bandit(), tmp_path)


def test_what_is_no_policy_is_refused_by_name(tmp_path: Path) -> None:
    class Half(BANDIT.Bandits):  # type: ignore[name-defined, misc]
        def policy(self, task: rrm.Task, seed: int) -> Any:
            return BANDIT.WinRates()

    with pytest.raises(ContractError, match=r"policy that the maker 'bandit' made for 'pull' .* no repeatable, sample"):
        rrm.train(BANDIT.pull, rrm.BoundedUser(), Half(), tmp_path)


def test_what_is_no_user_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="user is a int, which has no name, judge, recall; it must be a User"):
        rrm.train(BANDIT.pull, 3, BANDIT.Bandits(), tmp_path)  # type: ignore[arg-type]


def test_another_beginning_is_another_run(tmp_path: Path) -> None:
    rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    other = BANDIT.Bandits()
    other.fingerprint = "skewed"
    with pytest.raises(rrm.RRMError, match=r"other settings:\n  model.fingerprint: \"uniform\" there"):
        rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), other, tmp_path)


def test_a_bandit_is_judged_with_the_help_of_a_bandit(tmp_path: Path) -> None:
    """A tree: the assistant's outcome is an arm, too, which it reads as a claim about the fact `pays`."""

    def frame(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Case]:
        return [rrm.Case(f"does {outcome.shown} pay?", {"arm": BANDIT.arm_of(outcome)})]

    def truth(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Fact]:
        right = (case.data["arm"] == 2) == (BANDIT.arm_of(outcome) == 2)
        return [rrm.Fact("right", "pay", rrm.Sealed(right))]

    def findings(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Finding]:
        return [rrm.Finding("pays", BANDIT.arm_of(outcome) == 2)]

    said = replace(
        BANDIT.pull, name="said", cases=None, frame=frame, facts=truth, findings=findings, covers=("pay",)
    )
    tree = replace(BANDIT.pull, assistants=(said,), aspects=("pay",))
    root = rrm.train(tree, rrm.BoundedUser(attention=4), BANDIT.Bandits(), tmp_path)
    assert [helper.task.path for helper in root.helpers] == ["pull/said"]
    with Reader(tmp_path) as run:
        assert set(run.nodes) == {"pull", "pull/said"}


def bent(**methods: Any) -> Any:
    """A maker of bandits with these methods instead of their own."""
    policy = type("Bent", (BANDIT.Bandit,), {k: v for k, v in methods.items() if k in ("sample", "improve", "state")})
    reward = type("BentRates", (BANDIT.WinRates,), {k: v for k, v in methods.items() if k in ("score", "fit")})
    return type("BentMaker", (BANDIT.Bandits,), {
        "policy": lambda self, task, seed: policy(), "reward": lambda self, task, seed: reward()})()  # fmt: skip


SAMPLE, SCORE, FIT = BANDIT.Bandit.sample, BANDIT.WinRates.score, BANDIT.WinRates.fit


def scored(self: Any, groups: Any, change: Any) -> Any:
    scores = SCORE(self, groups)
    for one in scores:
        change(one)
    return scores


@pytest.mark.parametrize(
    ("methods", "why"),
    [
        ({"sample": lambda self, cases, n, key, **k: SAMPLE(self, cases, n + 1, key)}, "gave 5 outcomes of a case"),
        ({"sample": lambda self, cases, n, key, **k: SAMPLE(self, cases, n, key)[::-1]}, "not one for each of 8"),
        ({"sample": lambda self, cases, n, key, **k: SAMPLE(self, cases, n, key)[1:]}, "gave 7 groups, not one for"),
        ({"sample": lambda self, cases, n, key, **k: None}, "gave None .NoneType., not a list of Group"),
        ({"improve": lambda self, *given: None}, "improve gave NoneType, no ImproveReport"),
        ({"fit": lambda self, *given: None}, "fit gave NoneType, no FitReport"),
        ({"score": lambda self, groups: SCORE(self, groups)[1:]}, "scored .* groups as"),
        ({"score": lambda self, groups: scored(self, groups, lambda s: setattr(s, "mean", s.mean * float("nan")))},
         "gave scores that are no numbers"),
        ({"score": lambda self, groups: scored(self, groups, lambda s: setattr(s, "heads", s.mean))}, "gave shapes"),
    ],
)  # fmt: skip
def test_what_is_nearly_right_is_refused_by_name(tmp_path: Path, methods: dict[str, Any], why: str) -> None:
    with pytest.raises(rrm.RRMError, match=rf"pull.*{why}"):
        rrm.train(BANDIT.pull, rrm.BoundedUser(attention=4), bent(**methods), tmp_path)


def test_what_a_learner_does_to_its_list_is_its_own_affair(tmp_path: Path) -> None:
    def fit(self: Any, comparisons: Any, settings: Any, key: str, progress: Any = None) -> Any:
        found = FIT(self, comparisons, settings, key, progress)
        if hasattr(comparisons, "clear"):
            comparisons.clear()
        return found

    rrm.train(BANDIT.pull, Impatient(attention=4), bent(fit=fit), tmp_path / "a")
    rrm.train(BANDIT.pull, Impatient(attention=4), BANDIT.Bandits(), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_protocol_s_own_stubs_are_no_implementation(tmp_path: Path) -> None:
    class Half(rrm.Policy):
        def sample(self, cases: Any, n: int, key: str, temperature: float = 1.0, greedy: bool = False) -> Any:
            return []

    class Maker(BANDIT.Bandits):  # type: ignore[name-defined, misc]
        def policy(self, task: rrm.Task, seed: int) -> Any:
            return Half()

    with pytest.raises(ContractError, match="has no version, repeatable, state, load, improve"):
        rrm.train(BANDIT.pull, rrm.BoundedUser(), Maker(), tmp_path)
